//! Pictures, between Rust and `CVPixelBuffer`.

use std::{borrow::Cow, ptr, ptr::NonNull, slice};

use objc2_core_foundation::CFRetained;
use objc2_core_video::{
    CVPixelBuffer, CVPixelBufferCreate, CVPixelBufferGetBaseAddress, CVPixelBufferGetBytesPerRow,
    CVPixelBufferGetHeight, CVPixelBufferGetPixelFormatType, CVPixelBufferGetWidth, CVPixelBufferLockBaseAddress,
    CVPixelBufferLockFlags, CVPixelBufferUnlockBaseAddress, CVReturn, kCVPixelFormatType_32BGRA,
    kCVPixelFormatType_OneComponent8, kCVPixelFormatType_OneComponent16Half, kCVReturnSuccess,
};

use crate::failure::Failure;

/// A picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Pixels<'a> {
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// What a pixel is.
    pub format: PixelFormat,
    /// The pixels, row by row from the top, without gaps.
    pub bytes: Cow<'a, [u8]>,
}

/// What a pixel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PixelFormat {
    /// Blue, green, red and alpha of 8 bits each.
    Bgra8,
    /// One value of 8 bits.
    Gray8,
    /// One half float, in the machine's order of bytes.
    GrayFloat16,
}

impl PixelFormat {
    const ALL: [PixelFormat; 3] = [PixelFormat::Bgra8, PixelFormat::Gray8, PixelFormat::GrayFloat16];

    fn bytes(self) -> usize {
        match self {
            PixelFormat::Bgra8 => 4,
            PixelFormat::Gray8 => 1,
            PixelFormat::GrayFloat16 => 2,
        }
    }

    fn code(self) -> u32 {
        match self {
            PixelFormat::Bgra8 => kCVPixelFormatType_32BGRA,
            PixelFormat::Gray8 => kCVPixelFormatType_OneComponent8,
            PixelFormat::GrayFloat16 => kCVPixelFormatType_OneComponent16Half,
        }
    }
}

/// A buffer of Core Video's with a copy of these pixels.
pub(crate) fn to_object(pixels: &Pixels<'_>) -> Result<CFRetained<CVPixelBuffer>, Failure> {
    let Pixels { width, height, format, bytes } = pixels;
    let row = width.checked_mul(format.bytes()).unwrap_or(usize::MAX);
    if row.checked_mul(*height) != Some(bytes.len()) || bytes.is_empty() {
        return Err(Failure::ours(format!("{} bytes do not make {width}x{height} pixels", bytes.len())));
    }
    let mut buffer: *mut CVPixelBuffer = ptr::null_mut();
    // SAFETY: the place is valid for one pointer.
    let code = unsafe { CVPixelBufferCreate(None, *width, *height, format.code(), None, NonNull::from(&mut buffer)) };
    check(code, "CVPixelBufferCreate")?;
    let buffer = NonNull::new(buffer).ok_or_else(|| Failure::ours("CVPixelBufferCreate gave nothing"))?;
    // SAFETY: a function with Create in its name gives a reference that is ours.
    let buffer = unsafe { CFRetained::from_raw(buffer) };
    let locked = Locked::new(&buffer, CVPixelBufferLockFlags(0))?;
    for (y, source) in bytes.chunks_exact(row).enumerate() {
        // SAFETY: the row lies within the buffer, which is locked for writing, and `source` is as long as a row.
        unsafe { ptr::copy_nonoverlapping(source.as_ptr(), locked.row(y, row)?.as_ptr(), row) };
    }
    drop(locked);
    Ok(buffer)
}

/// Lends the pixels of a buffer. They are copied where its rows have gaps between them.
pub(crate) fn read<R>(buffer: &CVPixelBuffer, take: impl FnOnce(Pixels<'_>) -> R) -> Result<R, Failure> {
    let (width, height) = (CVPixelBufferGetWidth(buffer), CVPixelBufferGetHeight(buffer));
    let code = CVPixelBufferGetPixelFormatType(buffer);
    let format = PixelFormat::ALL.into_iter().find(|format| format.code() == code);
    let format = format.ok_or_else(|| Failure::ours(format!("pixels have the unknown format {code:#x}")))?;
    let row = width.checked_mul(format.bytes()).ok_or_else(|| Failure::ours("a row is larger than memory"))?;
    let locked = Locked::new(buffer, CVPixelBufferLockFlags::ReadOnly)?;
    let rows = (0..height).map(|y| {
        // SAFETY: the row lies within the buffer, which is locked, and nobody writes to a result.
        locked.row(y, row).map(|start| unsafe { slice::from_raw_parts(start.as_ptr().cast_const(), row) })
    });
    let bytes = match (height, locked.bytes_per_row == row) {
        // SAFETY: the rows follow each other without gaps in a buffer that is locked.
        (1.., true) => Cow::Borrowed(unsafe { slice::from_raw_parts(locked.row(0, row)?.as_ptr(), row * height) }),
        _ => Cow::Owned(rows.collect::<Result<Vec<&[u8]>, Failure>>()?.concat()),
    };
    Ok(take(Pixels { width, height, format, bytes }))
}

/// A buffer whose memory is in its place.
struct Locked<'a> {
    buffer: &'a CVPixelBuffer,
    flags: CVPixelBufferLockFlags,
    base: Option<NonNull<u8>>,
    bytes_per_row: usize,
    height: usize,
}

impl Locked<'_> {
    fn new(buffer: &CVPixelBuffer, flags: CVPixelBufferLockFlags) -> Result<Locked<'_>, Failure> {
        // SAFETY: the buffer is retained for as long as it is borrowed; it is unlocked with the same flags.
        check(unsafe { CVPixelBufferLockBaseAddress(buffer, flags) }, "CVPixelBufferLockBaseAddress")?;
        let base = NonNull::new(CVPixelBufferGetBaseAddress(buffer).cast());
        let (bytes_per_row, height) = (CVPixelBufferGetBytesPerRow(buffer), CVPixelBufferGetHeight(buffer));
        Ok(Locked { buffer, flags, base, bytes_per_row, height })
    }

    /// Where a row of so many bytes begins.
    fn row(&self, y: usize, len: usize) -> Result<NonNull<u8>, Failure> {
        match self.base {
            Some(base) if y < self.height && len <= self.bytes_per_row => {
                // SAFETY: a locked buffer has so many rows of so many bytes.
                Ok(unsafe { base.add(y * self.bytes_per_row) })
            }
            _ => Err(Failure::ours("a pixel buffer has not the memory that its size asks for")),
        }
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // SAFETY: it was locked with these flags, once.
        unsafe { CVPixelBufferUnlockBaseAddress(self.buffer, self.flags) };
    }
}

fn check(code: CVReturn, call: &str) -> Result<(), Failure> {
    if code == kCVReturnSuccess {
        return Ok(());
    }
    Err(Failure { domain: "CoreVideo".to_owned(), code: i64::from(code), message: format!("{call} failed") })
}
