//! Pictures in a terminal: two pixels a character, one above the other.

use anstyle::{Color, RgbColor, Style};
use apple_silicon::ane::features::{Image, Pixels};

/// What the terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Palette {
    /// No colour: shades and half blocks.
    Plain,
    /// The 256 colours of xterm.
    Xterm,
    /// Every colour.
    True,
}

type Rgb = [f32; 3];

/// The picture in at most this many characters across and down; each line is as wide as the picture.
pub(super) fn lines(image: &Image, columns: usize, rows: usize, palette: Palette) -> Vec<String> {
    let (width, height) = fitted((image.width(), image.height()), (columns, 2 * rows));
    let pixels = shrink(image, width, height);
    let at = |x: usize, y: usize| pixels.get(y * width + x).copied().unwrap_or([0.0; 3]);
    (0..height)
        .step_by(2)
        .map(|y| {
            let cells = (0..width).map(|x| (at(x, y), if y + 1 < height { at(x, y + 1) } else { [0.0; 3] }));
            match palette {
                Palette::Plain => cells.map(|(top, bottom)| glyph(luma(top), luma(bottom))).collect(),
                Palette::Xterm | Palette::True => {
                    cells.map(|(top, bottom)| cell(color(top, palette), color(bottom, palette))).collect()
                }
            }
        })
        .collect()
}

/// The characters that a line of the picture takes.
pub(super) fn columns(image: &Image, columns: usize, rows: usize) -> usize {
    fitted((image.width(), image.height()), (columns, 2 * rows)).0
}

/// The largest size within `most` with the picture's proportions, never above its own.
fn fitted((width, height): (usize, usize), most: (usize, usize)) -> (usize, usize) {
    let scale = (most.0 as f64 / width as f64).min(most.1 as f64 / height as f64).min(1.0);
    let scaled = |size: usize| ((size as f64 * scale).round() as usize).max(1);
    (scaled(width), scaled(height))
}

/// Each pixel is the mean of those that it covers.
fn shrink(image: &Image, width: usize, height: usize) -> Vec<Rgb> {
    let span = |index: usize, size: usize, full: usize| {
        let (start, end) = (index * full / size, ((index + 1) * full).div_ceil(size));
        start..end.min(full)
    };
    let mut pixels = Vec::with_capacity(width * height);
    for y in 0..height {
        for x in 0..width {
            let (rows, columns) = (span(y, height, image.height()), span(x, width, image.width()));
            let count = (rows.len() * columns.len()).max(1) as f32;
            let mut sum = [0.0; 3];
            for (row, column) in rows.flat_map(|row| columns.clone().map(move |column| (row, column))) {
                let pixel = pixel(image, row * image.width() + column);
                sum.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += value);
            }
            pixels.push(sum.map(|sum| sum / count));
        }
    }
    pixels
}

fn pixel(image: &Image, index: usize) -> Rgb {
    match image.pixels() {
        Pixels::Rgb(values) => [0, 1, 2].map(|channel| f32::from(values[3 * index + channel])),
        Pixels::Gray(values) => [f32::from(values[index]); 3],
        Pixels::GrayFloat16(values) => [values[index].to_f32().clamp(0.0, 255.0); 3],
    }
}

fn luma([r, g, b]: Rgb) -> f32 {
    0.299 * r + 0.587 * g + 0.114 * b
}

fn color(pixel: Rgb, palette: Palette) -> Color {
    let [r, g, b] = pixel.map(|value| value.round() as u8);
    let rgb = RgbColor(r, g, b);
    if palette == Palette::True { rgb.into() } else { anstyle_lossy::rgb_to_xterm(rgb).into() }
}

fn cell(top: Color, bottom: Color) -> String {
    let style = Style::new().fg_color(Some(top)).bg_color(Some(bottom));
    format!("{style}\u{2580}{style:#}")
}

/// The character that comes nearest to these two brightnesses.
fn glyph(top: f32, bottom: f32) -> char {
    const GLYPHS: [(char, f32, f32); 7] = [
        (' ', 0.0, 0.0),
        ('\u{2591}', 64.0, 64.0),
        ('\u{2592}', 128.0, 128.0),
        ('\u{2593}', 191.0, 191.0),
        ('\u{2588}', 255.0, 255.0),
        ('\u{2580}', 255.0, 0.0),
        ('\u{2584}', 0.0, 255.0),
    ];
    let distance = |&(_, t, b): &(char, f32, f32)| (top - t).powi(2) + (bottom - b).powi(2);
    GLYPHS.iter().min_by(|a, b| distance(a).total_cmp(&distance(b))).expect("there are glyphs").0
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn pictures_keep_their_proportions() {
        assert_eq!(fitted((28, 28), (40, 32)), (28, 28));
        assert_eq!(fitted((224, 224), (40, 16)), (16, 16));
        assert_eq!(fitted((1000, 10), (40, 16)), (40, 1));
    }

    #[test]
    fn without_colour_shades_show_it() {
        let ring: Vec<u8> = (0..64)
            .map(|i| {
                let (x, y) = ((i % 8) as f32 - 3.5, (i / 8) as f32 - 3.5);
                (255.0 - 120.0 * (x.hypot(y) - 2.8).abs()).max(0.0) as u8
            })
            .collect();
        let image = Image::new(8, 8, Pixels::Gray(ring)).unwrap();
        expect![[r#"
            ░▒▓▓▓▓▒░
            ▒█▒░░▒█▒
            ▒█▒░░▒█▒
            ░▒▓▓▓▓▒░"#]]
        .assert_eq(&lines(&image, 8, 4, Palette::Plain).join("\n"));
    }

    #[test]
    fn with_colour_each_half_has_its_own() {
        let image = Image::new(1, 2, Pixels::Rgb(vec![255, 0, 0, 0, 0, 255])).unwrap();
        expect![[r#"["\u{1b}[38;2;255;0;0m\u{1b}[48;2;0;0;255m▀\u{1b}[0m"]"#]]
            .assert_eq(&format!("{:?}", lines(&image, 8, 4, Palette::True)));
        expect![[r#"["\u{1b}[38;5;196m\u{1b}[48;5;21m▀\u{1b}[0m"]"#]]
            .assert_eq(&format!("{:?}", lines(&image, 8, 4, Palette::Xterm)));
    }
}
