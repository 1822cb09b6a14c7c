// MLMultiArray.
#import "stand_in.h"

static long element_size(long type) { return (type & 0xffff) / 8; }

static BOOL known(long type)
{
	switch (type) {
	case 0x10000 | 64: case 0x10000 | 32: case 0x20000 | 32:
		return YES;
	case 0x10000 | 16:
		if (!stand_in_at_least(12, 0))
			stand_in_complain("an array of half floats before macOS 12");
		return YES;
	case 0x20000 | 8:
		if (!stand_in_at_least(26, 0))
			stand_in_complain("an array of 8-bit integers before macOS 26");
		return YES;
	default:
		return NO;
	}
}

static long at(NSArray *numbers, long index) { return [[numbers objectAtIndex:index] longValue]; }

/// Elements from the first to the last in memory; -1 where they are too many.
static long extent(NSArray *shape, NSArray *strides)
{
	long extent = 1;
	for (long i = 0; i < (long)[shape count]; i++) {
		long reach;
		if (at(shape, i) == 0)
			return 0;
		if (at(shape, i) < 0 || at(strides, i) < 0 || __builtin_mul_overflow(at(shape, i) - 1, at(strides, i), &reach)
			|| __builtin_add_overflow(extent, reach, &extent) || extent > 1L << 40)
			return -1;
	}
	return extent;
}

/// Strides in elements: those of a row of `row` bytes' multiple.
static NSArray *strides_of(const long *shape, long rank, long size, long row)
{
	NSMutableArray *strides = [NSMutableArray array];
	long stride = 1;
	for (long i = rank - 1; i >= 0; i--) {
		[strides insertObject:[NSNumber numberWithLong:stride] atIndex:0];
		stride *= shape[i] > 0 ? shape[i] : 1;
		if (i == rank - 1)
			stride = (stride * size + row - 1) / row * row / size;
	}
	return strides;
}

static NSArray *plain_strides(NSArray *shape, long size)
{
	long sizes[16], rank = [shape count] < 16 ? [shape count] : 16;
	for (long i = 0; i < rank; i++)
		sizes[i] = at(shape, i);
	return strides_of(sizes, rank, size, size);
}

MLMultiArray *stand_in_array(const long *shape, long rank, long type, BOOL padded)
{
	NSMutableArray *sizes = [NSMutableArray array];
	for (long i = 0; i < rank; i++)
		[sizes addObject:[NSNumber numberWithLong:shape[i]]];
	NSArray *strides = strides_of(shape, rank, element_size(type), padded ? 64 : element_size(type));
	return [[[MLMultiArray alloc] initWithShape:sizes dataType:type strides:strides] autorelease];
}

@implementation MLMultiArray

- (id)initWithShape:(NSArray *)sizes dataType:(long)kind error:(NSError **)error
{
	if (!known(kind) || extent(sizes, plain_strides(sizes, 1)) < 0) {
		if (error)
			*error = stand_in_error(0, @"Failed to allocate a multi array of shape %@", sizes);
		[self release];
		return nil;
	}
	return [self initWithShape:sizes dataType:kind strides:plain_strides(sizes, element_size(kind))];
}

- (id)initWithShape:(NSArray *)sizes dataType:(long)kind strides:(NSArray *)steps
{
	if ((self = [super init])) {
		shape = [sizes copy];
		strides = [steps copy];
		type = kind;
		owned = YES;
		// What lies between rows is not zero on the Neural Engine either.
		long size = extent(sizes, steps) * element_size(kind);
		if (size == 0)
			return self;
		bytes = aligned_alloc(64, (size + 64) / 64 * 64);
		memset(bytes, 0xa5, size);
		void *zeros = calloc([self count] + 1, element_size(kind));
		[self scatter:zeros];
		free(zeros);
	}
	return self;
}

- (id)initWithDataPointer:(void *)pointer shape:(NSArray *)sizes dataType:(long)kind strides:(NSArray *)steps
	deallocator:(void *)block error:(NSError **)error
{
	NSString *wrong = nil;
	if (!known(kind))
		wrong = [NSString stringWithFormat:@"Unknown data type %ld", kind];
	else if ([sizes count] != [steps count])
		wrong = @"Shape and strides have different lengths";
	else if (extent(sizes, steps) < 0)
		wrong = @"Shape and strides are out of range";
	if (wrong) {
		if (error)
			*error = stand_in_error(0, @"%@", wrong);
		[self release];
		return nil;
	}
	if ((self = [super init])) {
		shape = [sizes copy];
		strides = [steps copy];
		type = kind;
		bytes = pointer;
		deallocator = block ? _Block_copy(block) : 0;
	}
	return self;
}

- (void)dealloc
{
	if (owned)
		free(bytes);
	if (deallocator) {
		CALL(deallocator, void *, bytes);
		_Block_release(deallocator);
	}
	[shape release];
	[strides release];
	[super dealloc];
}

- (NSArray *)shape { return [[shape retain] autorelease]; }
- (NSArray *)strides { return [[strides retain] autorelease]; }
- (long)dataType { return type; }
- (void *)dataPointer { return bytes; }

- (long)count
{
	long count = 1;
	for (NSNumber *size in shape)
		count *= [size longValue];
	return count;
}

- (long)length { return extent(shape, strides) * element_size(type); }

- (void)getBytesWithHandler:(void *)block { CALL(block, TYPES(const void *, long), bytes, [self length]); }

- (void)getMutableBytesWithHandler:(void *)block
{
	CALL(block, TYPES(void *, long, NSArray *), bytes, [self length], strides);
}

- (char *)walk:(char *)elements axis:(long)axis from:(char *)from reading:(BOOL)reading
{
	long size = element_size(type);
	if (axis == (long)[shape count]) {
		reading ? memcpy(elements, from, size) : memcpy(from, elements, size);
		return elements + size;
	}
	long length = at(shape, axis), step = at(strides, axis);
	if (axis + 1 == (long)[shape count] && step == 1) {
		reading ? memcpy(elements, from, length * size) : memcpy(from, elements, length * size);
		return elements + length * size;
	}
	for (long i = 0; i < length; i++)
		elements = [self walk:elements axis:axis + 1 from:from + i * step * size reading:reading];
	return elements;
}

- (void)gather:(void *)elements
{
	if (bytes)
		[self walk:elements axis:0 from:bytes reading:YES];
}

- (void)scatter:(const void *)elements
{
	if (bytes)
		[self walk:(char *)elements axis:0 from:bytes reading:NO];
}

@end
