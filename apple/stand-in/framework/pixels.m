// Pixel buffers of Core Video. Core Foundation's objects are Objective-C's, here as on a Mac.
#import "stand_in.h"

enum { READ_ONLY = 1, INVALID_ARGUMENT = -6661, INVALID_FORMAT = -6680, INVALID_SIZE = -6681 };

static size_t pixel_size(unsigned format)
{
	switch (format) {
	case 'BGRA': return 4;
	case 'L008': return 1;
	case 'L00h': return 2;
	default: return 0;
	}
}

@implementation CVPixelBuffer

- (void)dealloc
{
	if (locks)
		stand_in_complain("a pixel buffer is freed while it is locked");
	free(bytes);
	[super dealloc];
}

- (void)gather:(void *)pixels
{
	for (size_t y = 0; y < height; y++)
		memcpy((char *)pixels + y * width * pixel, bytes + y * bytes_per_row, width * pixel);
}

- (void)scatter:(const void *)pixels
{
	for (size_t y = 0; y < height; y++)
		memcpy(bytes + y * bytes_per_row, (const char *)pixels + y * width * pixel, width * pixel);
}

@end

int CVPixelBufferCreate(void *allocator, size_t width, size_t height, unsigned format, void *attributes, id *out)
{
	if (!out)
		return INVALID_ARGUMENT;
	if (!pixel_size(format))
		return INVALID_FORMAT;
	if (!width || !height || width > 1 << 15 || height > 1 << 15)
		return INVALID_SIZE;
	CVPixelBuffer *buffer = [CVPixelBuffer new];
	buffer->width = width;
	buffer->height = height;
	buffer->format = format;
	buffer->pixel = pixel_size(format);
	// There is always a gap, so that nobody can do without a look at the rows.
	buffer->bytes_per_row = width * buffer->pixel / 64 * 64 + 64;
	buffer->bytes = malloc(buffer->bytes_per_row * height);
	memset(buffer->bytes, 0xa5, buffer->bytes_per_row * height);
	*out = buffer;
	return 0;
}

int CVPixelBufferLockBaseAddress(CVPixelBuffer *buffer, unsigned long long flags)
{
	if (__sync_fetch_and_add(&buffer->locks, 1) == 0)
		buffer->flags = flags;
	return 0;
}

int CVPixelBufferUnlockBaseAddress(CVPixelBuffer *buffer, unsigned long long flags)
{
	if (buffer->locks == 0 || buffer->flags != flags) {
		stand_in_complain("a pixel buffer is unlocked as it was not locked");
		return INVALID_ARGUMENT;
	}
	__sync_fetch_and_sub(&buffer->locks, 1);
	return 0;
}

/// There is no address while the buffer is not locked.
void *CVPixelBufferGetBaseAddress(CVPixelBuffer *buffer) { return buffer->locks ? buffer->bytes : 0; }
size_t CVPixelBufferGetBytesPerRow(CVPixelBuffer *buffer) { return buffer->bytes_per_row; }
size_t CVPixelBufferGetWidth(CVPixelBuffer *buffer) { return buffer->width; }
size_t CVPixelBufferGetHeight(CVPixelBuffer *buffer) { return buffer->height; }
unsigned CVPixelBufferGetPixelFormatType(CVPixelBuffer *buffer) { return buffer->format; }
size_t CVPixelBufferGetDataSize(CVPixelBuffer *buffer) { return buffer->bytes_per_row * buffer->height; }
unsigned char CVPixelBufferIsPlanar(CVPixelBuffer *buffer) { return 0; }
