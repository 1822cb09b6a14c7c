//! Pictures, and how they become what a network sees.

use coreml_format::schema::ColorSpace;
use half::{f16, slice::HalfFloatSliceExt};

use crate::ane::errors::{ANEError, Result};

/// A picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    width: usize,
    height: usize,
    pixels: Pixels,
}

/// The pixels of a picture, row by row from the top, each from the left.
#[derive(Clone, Debug, PartialEq)]
pub enum Pixels {
    /// Red, green and blue of 8 bits each, pixel after pixel, whatever order the network wants.
    Rgb(Vec<u8>),
    /// One value of 8 bits.
    Gray(Vec<u8>),
    /// One half float; Core ML gives no range.
    GrayFloat16(Vec<f16>),
}

impl Image {
    /// A picture of this many pixels across and down.
    ///
    /// ```
    /// use apple_silicon::ane::features::{Image, Pixels};
    ///
    /// let red = Image::new(2, 1, Pixels::Rgb(vec![255, 0, 0, 255, 0, 0])).unwrap();
    /// assert_eq!((red.width(), red.height()), (2, 1));
    /// ```
    ///
    /// # Errors
    /// [`ANEError::InvalidShape`] unless there are as many values as the size asks for.
    pub fn new(width: usize, height: usize, pixels: Pixels) -> Result<Image> {
        let (channels, values) = match &pixels {
            Pixels::Rgb(values) => (3, values.len()),
            Pixels::Gray(values) => (1, values.len()),
            Pixels::GrayFloat16(values) => (1, values.len()),
        };
        let expected = width.checked_mul(height).and_then(|n| n.checked_mul(channels));
        if expected == Some(values) {
            return Ok(Image { width, height, pixels });
        }
        Err(ANEError::InvalidShape(format!(
            "{values} values do not make an image of {width}x{height} pixels with {channels} channel(s)"
        )))
    }

    /// Pixels across.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Pixels down.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The pixels.
    pub fn pixels(&self) -> &Pixels {
        &self.pixels
    }

    pub(super) fn describe(&self) -> String {
        let color = match self.pixels {
            Pixels::Rgb(_) => "an RGB",
            Pixels::Gray(_) => "a gray",
            Pixels::GrayFloat16(_) => "a gray half-float",
        };
        format!("{color} image of {}x{} pixels", self.width, self.height)
    }

    /// The picture as a network sees it: channel after channel, with values of 0 to 255. A gray picture is seen in
    /// every channel; of a coloured one a gray network sees the luma of ITU-R BT.601.
    pub(crate) fn to_planes(&self, color: ColorSpace) -> Vec<f32> {
        let channels = color.channels();
        match &self.pixels {
            Pixels::Gray(gray) => repeat(gray.iter().map(|&v| f32::from(v)), channels),
            Pixels::GrayFloat16(gray) => repeat(gray.to_f32_vec().into_iter(), channels),
            Pixels::Rgb(rgb) => match color {
                ColorSpace::Rgb => planes(rgb, [0, 1, 2]),
                ColorSpace::Bgr => planes(rgb, [2, 1, 0]),
                ColorSpace::Grayscale | ColorSpace::GrayscaleFloat16 => {
                    rgb.as_chunks::<3>().0.iter().map(luma).collect()
                }
            },
        }
    }

    /// The picture that a network's planes show; 8-bit values are rounded and clamped.
    pub(crate) fn from_planes(color: ColorSpace, width: usize, height: usize, planes: &[f32]) -> Result<Image> {
        let size = width * height;
        let byte = |v: f32| v.round().clamp(0.0, 255.0) as u8;
        let pixels = match color {
            ColorSpace::Grayscale => Pixels::Gray(planes.iter().map(|&v| byte(v)).collect()),
            ColorSpace::GrayscaleFloat16 => Pixels::GrayFloat16(planes.iter().map(|&v| f16::from_f32(v)).collect()),
            ColorSpace::Rgb | ColorSpace::Bgr => {
                let order = if color == ColorSpace::Rgb { [0, 1, 2] } else { [2, 1, 0] };
                if planes.len() != 3 * size {
                    return Err(ANEError::Internal(format!("{} values make no image of 3 channels", planes.len())));
                }
                Pixels::Rgb((0..size).flat_map(|i| order.map(|c| byte(planes[c * size + i]))).collect())
            }
        };
        Image::new(width, height, pixels)
    }
}

fn repeat(plane: impl Iterator<Item = f32>, channels: usize) -> Vec<f32> {
    plane.collect::<Vec<_>>().repeat(channels)
}

fn planes(rgb: &[u8], order: [usize; 3]) -> Vec<f32> {
    let pixels = rgb.as_chunks::<3>().0;
    order.iter().flat_map(|&channel| pixels.iter().map(move |pixel| f32::from(pixel[channel]))).collect()
}

fn luma([r, g, b]: &[u8; 3]) -> f32 {
    (0.299 * f32::from(*r) + 0.587 * f32::from(*g) + 0.114 * f32::from(*b)).round()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_see_channels_in_their_order() {
        let image = Image::new(2, 1, Pixels::Rgb(vec![1, 2, 3, 4, 5, 6])).unwrap();
        assert_eq!(image.to_planes(ColorSpace::Rgb), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!(image.to_planes(ColorSpace::Bgr), [3.0, 6.0, 2.0, 5.0, 1.0, 4.0]);
        assert_eq!(image.to_planes(ColorSpace::Grayscale), [2.0, 5.0]);
        let gray = Image::new(1, 2, Pixels::Gray(vec![7, 9])).unwrap();
        assert_eq!(gray.to_planes(ColorSpace::Rgb), [7.0, 9.0, 7.0, 9.0, 7.0, 9.0]);
    }

    #[test]
    fn planes_become_pictures_again() {
        let image = Image::from_planes(ColorSpace::Bgr, 1, 1, &[3.4, -1.0, 300.0]).unwrap();
        assert_eq!(image.pixels(), &Pixels::Rgb(vec![255, 0, 3]));
        assert!(Image::from_planes(ColorSpace::Rgb, 2, 2, &[0.0; 3]).is_err());
    }

    #[test]
    fn sizes_must_match() {
        assert!(Image::new(2, 2, Pixels::Gray(vec![0; 3])).is_err());
        assert!(Image::new(usize::MAX, 2, Pixels::Rgb(Vec::new())).is_err());
    }
}
