//! Pictures from files, in the size that a model takes.

use std::path::Path;

use apple_silicon::ane::features::{Image, Pixels};
use coreml_format::schema::{ImageFlexibility, ImageKind, SizeRange};
use image::{DynamicImage, ImageDecoder, ImageReader, imageops::FilterType};

use crate::exit::Refusal;

/// Whether the file's name says that it is a picture.
pub(super) fn is_picture(path: &Path) -> bool {
    const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

/// Reads a picture, turns it as its camera says, and stretches it to the size that the model takes. Colours stay as
/// they are: the library makes of them what the network sees.
pub(super) fn read(path: &Path, kind: &ImageKind) -> Result<Image, Refusal> {
    let picture = decode(path).map_err(|e| Refusal::Input(format!("cannot be read: {e}")))?;
    let (width, height) = size(kind, (picture.width() as usize, picture.height() as usize));
    let fitted = fit(picture, width, height);
    let pixels = if fitted.color().has_color() {
        Pixels::Rgb(fitted.to_rgb8().into_raw())
    } else {
        Pixels::Gray(fitted.to_luma8().into_raw())
    };
    Image::new(width, height, pixels).map_err(|e| Refusal::Input(e.to_string()))
}

fn decode(path: &Path) -> image::ImageResult<DynamicImage> {
    let mut decoder = ImageReader::open(path)?.with_guessed_format()?.into_decoder()?;
    let orientation = decoder.orientation()?;
    let mut picture = DynamicImage::from_decoder(decoder)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

fn fit(picture: DynamicImage, width: usize, height: usize) -> DynamicImage {
    let (width, height) = (width as u32, height as u32);
    if (picture.width(), picture.height()) == (width, height) {
        return picture;
    }
    picture.resize_exact(width, height, FilterType::Triangle)
}

/// The size that the model takes for a picture of this size: its own where that is allowed.
fn size(kind: &ImageKind, own: (usize, usize)) -> (usize, usize) {
    match &kind.flexibility {
        ImageFlexibility::Fixed => (kind.width, kind.height),
        ImageFlexibility::Enumerated(sizes) if sizes.contains(&own) => own,
        ImageFlexibility::Enumerated(_) => (kind.width, kind.height),
        ImageFlexibility::Ranges { width, height } => (nearest(*width, own.0), nearest(*height, own.1)),
    }
}

fn nearest(range: SizeRange, size: usize) -> usize {
    size.max(range.lower).min(range.upper.unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use coreml_format::schema::ColorSpace;
    use image::{Rgb, RgbImage};

    use super::*;

    fn kind(flexibility: ImageFlexibility) -> ImageKind {
        ImageKind { width: 4, height: 2, color: ColorSpace::Rgb, flexibility }
    }

    #[test]
    fn pictures_take_a_size_of_the_model() {
        let range = SizeRange { lower: 3, upper: Some(9) };
        for (flexibility, own, expected) in [
            (ImageFlexibility::Fixed, (9, 9), (4, 2)),
            (ImageFlexibility::Enumerated(vec![(4, 2), (8, 8)]), (8, 8), (8, 8)),
            (ImageFlexibility::Enumerated(vec![(4, 2), (8, 8)]), (9, 9), (4, 2)),
            (ImageFlexibility::Ranges { width: range, height: range }, (1, 7), (3, 7)),
            (ImageFlexibility::Ranges { width: range, height: range }, (10, 3), (9, 3)),
        ] {
            assert_eq!(size(&kind(flexibility), own), expected);
        }
    }

    #[test]
    fn a_file_is_stretched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("red.PNG");
        RgbImage::from_pixel(7, 5, Rgb([200, 0, 1])).save_with_format(&path, image::ImageFormat::Png).unwrap();
        assert!(is_picture(&path));
        let picture = read(&path, &kind(ImageFlexibility::Fixed)).unwrap();
        assert_eq!(picture, Image::new(4, 2, Pixels::Rgb([200, 0, 1].repeat(8))).unwrap());
        std::fs::write(&path, b"no picture").unwrap();
        assert!(read(&path, &kind(ImageFlexibility::Fixed)).unwrap_err().to_string().contains("cannot be read"));
    }
}
