//! A prediction for people.

use std::fmt::Write;

use apple_silicon::ane::features::{Feature, Features, Image};

use super::{
    picture::{self, Palette},
    report::{Entry, Output, Prediction, Statistics, Value},
};
use crate::terminal::{self, BOLD, DIM, GOOD, clean, short};

/// How results are shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// The terminal's width in characters.
    width: usize,
    palette: Palette,
    /// The most lines that a picture takes.
    picture_rows: usize,
}

impl Look {
    /// For this process' stdout. With `many` predictions pictures are small, so that several are in view.
    pub(crate) fn of_stdout(many: bool) -> Look {
        let true_color = std::env::var("COLORTERM").is_ok_and(|value| value == "truecolor" || value == "24bit");
        let palette = match (terminal::has_color(), true_color) {
            (false, _) => Palette::Plain,
            (true, false) => Palette::Xterm,
            (true, true) => Palette::True,
        };
        Look { width: terminal::width(), palette, picture_rows: if many { 8 } else { 14 } }
    }
}

/// A prediction in words and bars; with its `inputs`, beside the pictures among them.
pub(crate) fn text(prediction: &Prediction, inputs: Option<&Features>, look: Look) -> String {
    let images: Vec<&Image> = inputs.into_iter().flat_map(Features::iter).filter_map(|(_, f)| as_image(f)).collect();
    let pictures: Vec<Picture> = images.iter().map(|image| Picture::new(image, look)).collect();
    let taken: usize = pictures.iter().map(|picture| picture.columns + GAP).sum();
    let lines = answer(prediction, look.width.saturating_sub(taken + INDENT));
    let mut text = format!("{BOLD}{}{BOLD:#}\n", clean(&prediction.input));
    text.push_str(&beside(&pictures, &lines));
    text
}

const INDENT: usize = 2;
const GAP: usize = 3;

/// A picture's lines, each `columns` wide on the screen.
struct Picture {
    lines: Vec<String>,
    columns: usize,
}

impl Picture {
    fn new(image: &Image, look: Look) -> Picture {
        let most = look.width / 2;
        Picture {
            lines: picture::lines(image, most, look.picture_rows, look.palette),
            columns: picture::columns(image, most, look.picture_rows),
        }
    }
}

fn as_image(feature: &Feature) -> Option<&Image> {
    if let Feature::Image(image) = feature { Some(image) } else { None }
}

/// Pictures side by side, and text in the middle of their right.
fn beside(pictures: &[Picture], text: &[String]) -> String {
    let height = pictures.iter().map(|picture| picture.lines.len()).chain([text.len()]).max().unwrap_or(0);
    let above = (height - text.len()) / 2;
    let mut all = String::new();
    for row in 0..height {
        let mut line = " ".repeat(INDENT);
        for picture in pictures {
            match picture.lines.get(row) {
                Some(pixels) => line.push_str(pixels),
                None => line.push_str(&" ".repeat(picture.columns)),
            }
            line.push_str(&" ".repeat(GAP));
        }
        if let Some(text) = row.checked_sub(above).and_then(|row| text.get(row)) {
            line.push_str(text);
        }
        all.push_str(line.trim_end());
        all.push('\n');
    }
    all
}

/// The outputs, line by line: what fits one line goes first.
fn answer(prediction: &Prediction, width: usize) -> Vec<String> {
    let named = prediction.outputs.iter().filter(|output| !matches!(output.value, Value::Dictionary { .. }));
    let names = named.map(|output| short(&output.name).chars().count()).max().unwrap_or(0);
    prediction.outputs.iter().flat_map(|output| output_lines(output, names, width)).collect()
}

fn output_lines(Output { name, value }: &Output, names: usize, width: usize) -> Vec<String> {
    let name = format!("{:names$}", short(name));
    match value {
        Value::Int64 { value } => vec![format!("{name}  {BOLD}{value}{BOLD:#}")],
        Value::Double { value } => vec![format!("{name}  {BOLD}{}{BOLD:#}", number(*value))],
        Value::String { value } => vec![format!("{name}  {BOLD}{}{BOLD:#}", clean(value))],
        Value::Image { width, height } => vec![format!("{name}  image, {width}x{height}")],
        Value::MultiArray(statistics) => array_lines(&name, statistics),
        Value::Sequence { len, first } => {
            let more = if *len > first.len() { ", ..." } else { "" };
            vec![format!("{name}  {len} values: {}{more}", clean(&first.join(", ")))]
        }
        Value::Dictionary { len, top } => {
            let mut lines = bars(top, width);
            if *len > top.len() {
                lines.push(format!("{DIM}{} more in {}{DIM:#}", len - top.len(), name.trim_end()));
            }
            lines
        }
    }
}

fn array_lines(name: &str, told: &Statistics) -> Vec<String> {
    let mut first = format!("{name}  {} {:?}", told.dtype, told.shape);
    for (what, value) in [("min", told.min), ("max", told.max), ("mean", told.mean), ("std", told.std)] {
        if let Some(value) = value {
            write!(first, "  {DIM}{what}{DIM:#} {}", number(value)).expect("strings take all");
        }
    }
    for (what, count) in [("NaN", told.nan), ("inf", told.inf)] {
        if count > 0 {
            let bad = terminal::BAD;
            write!(first, "  {bad}{count} {what}{bad:#}").expect("strings take all");
        }
    }
    if told.first.is_empty() {
        return vec![first];
    }
    let values: Vec<String> = told.first.iter().map(|value| number(*value)).collect();
    let more = if told.shape.iter().product::<usize>() > values.len() { " ..." } else { "" };
    let indent = " ".repeat(name.chars().count());
    vec![first, format!("{DIM}{indent}  {}{more}{DIM:#}", values.join(" "))]
}

/// One line an entry: its key, a bar, its share. Values that are no shares of 1 get no bars.
fn bars(entries: &[Entry], width: usize) -> Vec<String> {
    const LONGEST: usize = 24;
    let keys: Vec<_> = entries.iter().map(|entry| short(&entry.key)).collect();
    let key_width = keys.iter().map(|key| key.chars().count()).max().unwrap_or(0);
    if !entries.iter().all(|entry| (0.0..=1.0 + 1e-3).contains(&entry.value)) {
        return keys
            .iter()
            .zip(entries)
            .map(|(key, entry)| format!("{key:key_width$}  {}", number(entry.value)))
            .collect();
    }
    let bar_width = width.saturating_sub(key_width + "  ".len() + " 100.0%".len()).min(LONGEST);
    let line = |(index, (key, entry)): (usize, (&std::borrow::Cow<'_, str>, &Entry))| {
        let style = if index == 0 { GOOD.bold() } else { DIM };
        let bar = bar(entry.value, bar_width);
        format!("{style}{key:key_width$}  {bar} {:5.1}%{style:#}", entry.value * 100.0)
    };
    keys.iter().zip(entries).enumerate().map(line).collect()
}

/// A bar in eighths of a character, filled up with blanks.
fn bar(share: f64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "\u{258f}", "\u{258e}", "\u{258d}", "\u{258c}", "\u{258b}", "\u{258a}", "\u{2589}"];
    let eighths = (share.clamp(0.0, 1.0) * 8.0 * width as f64).round() as usize;
    let bar = format!("{}{}", "\u{2588}".repeat(eighths / 8), EIGHTHS[eighths % 8]);
    format!("{bar:width$}")
}

/// Four digits are enough to see whether a number is right.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if (1e-3..1e5).contains(&size) => {
            if value.fract() == 0.0 {
                return value.to_string();
            }
            let decimals = (3 - size.log10().floor() as i32).max(0) as usize;
            format!("{value:.decimals$}")
        }
        _ if value.is_finite() => format!("{value:.3e}"),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use apple_silicon::ane::features::{Array, Dictionary, Pixels};
    use expect_test::{Expect, expect};

    use super::{super::prediction, *};

    fn check(inputs: Option<Features>, outputs: Features, expected: Expect) {
        let look = Look { width: 60, palette: Palette::Plain, picture_rows: 2 };
        let told = text(&prediction("a.png".to_owned(), &outputs, 3), inputs.as_ref(), look);
        expected.assert_eq(&anstream::adapter::strip_str(&told).to_string());
    }

    #[test]
    fn classes_have_bars_beside_the_picture() {
        let picture = Image::new(4, 4, Pixels::Gray(vec![255; 16])).unwrap();
        let probabilities = [("cat", 0.97), ("dog", 0.029), ("cow", 0.001), ("elk", 0.0)];
        let outputs = Features::from_iter([
            ("label", Feature::from("cat")),
            ("probs", Dictionary::Strings(probabilities.map(|(k, v)| (k.to_owned(), v)).into()).into()),
        ]);
        check(
            Some(Features::from_iter([("image", picture)])),
            outputs,
            expect![[r#"
                a.png
                  ████   label  cat
                  ████   cat  ███████████████████████▎  97.0%
                         dog  ▊                          2.9%
                         cow                             0.1%
                         1 more in probs
            "#]],
        );
    }

    #[test]
    fn arrays_are_summed_up() {
        let values: Vec<f32> = (0..10).map(|i| i as f32 / 8.0).chain([f32::NAN, f32::NEG_INFINITY]).collect();
        let outputs = Features::from_iter([
            ("y", Feature::from(Array::new([2, 6], values).unwrap())),
            ("count", 3.into()),
            ("none", Array::new([0], Vec::<i32>::new()).unwrap().into()),
        ]);
        check(
            None,
            outputs,
            expect![[r#"
                a.png
                  y      float32 [2, 6]  min 0  max 1.125  mean 0.5625  std 0.3590  1 NaN  1 inf
                         0 0.1250 0.2500 0.3750 0.5000 0.6250 0.7500 0.8750 ...
                  count  3
                  none   int32 [0]
            "#]],
        );
    }

    #[test]
    fn numbers_are_short() {
        for (value, expected) in [
            (0.0, "0"),
            (12.0, "12"),
            (0.123456, "0.1235"),
            (1234.56, "1235"),
            (99_999.4, "99999"),
            (1e-7, "1.000e-7"),
            (-2.5e9, "-2.500e9"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(number(value), expected);
        }
    }
}
