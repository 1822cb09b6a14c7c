// What the files of the stand-in for Core ML share. `../src/lib.rs` says what tests can ask of it.
#import <Foundation/Foundation.h>

#define COREML "com.apple.CoreML"

/// Base of every class here: it counts instances that are alive, by class, and wants a pool when one goes.
@interface StandIn : NSObject
@end

/// A block, as clang's ABI lays it out. GCC has no blocks, so they are called by hand.
struct Block {
	void *isa;
	int flags, reserved;
	void (*invoke)(void);
};
void *_Block_copy(const void *block);
void _Block_release(const void *block);

/// Calls a block with the arguments of this type.
#define CALL(block, type, ...) ((void (*)(void *, type))((struct Block *)(block))->invoke)(block, __VA_ARGS__)
#define TYPES(...) __VA_ARGS__

// Facts about the pretended system and what tests ask for: controls.m.

enum Call { COMPILE, LOAD, PREDICT, PLAN, NEW_STATE, CALLS };
enum Answer { GO_ON, FAIL, SILENCE, TWICE, HOLLOW };

/// Whether the system is at least of this version of macOS.
BOOL stand_in_at_least(long major, long minor);
long stand_in_neural_engine_cores(void);
/// Adds an instance of a class, or takes one away.
void stand_in_count(const char *class_name, long change);
/// Keeps what code did that Core ML does not allow, for `stand_in_complaints`.
void stand_in_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
/// Notes that something happened, for `stand_in_events`.
void stand_in_event(const char *name);
/// Notes a load's configuration, for `stand_in_configuration`.
void stand_in_note_configuration(const char *text);
/// Notes where an input's elements are, for `stand_in_input_address`.
void stand_in_note_input(const char *name, const void *elements);
/// Does what a test wants the next call of this kind to do: waits, crashes, or says how it is to end.
enum Answer stand_in_enter(enum Call call, BOOL on_neural_engine, NSError **error);
/// Runs a function on a thread of its own, which has no autorelease pool.
void stand_in_spawn(void (*run)(void *), void *job);

/// An autoreleased error of Core ML's domain.
NSError *stand_in_error(long code, NSString *format, ...);

// Classes of Core ML: array.m, pixels.m, value.m, model.m, plan.m.

@class MLMultiArray;

enum { INVALID, INT64, DOUBLE, STRING, IMAGE, MULTI_ARRAY, DICTIONARY, SEQUENCE, STATE };

@interface MLMultiArray : StandIn {
@public
	char *bytes;
	long type;
	NSArray *shape, *strides;
	void *deallocator;
	BOOL owned;
}
- (id)initWithShape:(NSArray *)shape dataType:(long)type strides:(NSArray *)strides;
- (NSArray *)shape;
- (long)dataType;
- (long)count;
/// Copies the elements in row-major order, out of the array or into it.
- (void)gather:(void *)elements;
- (void)scatter:(const void *)elements;
@end

/// An array of zeros whose rows begin at multiples of 64 bytes, as the Neural Engine's do, or without gaps.
MLMultiArray *stand_in_array(const long *shape, long rank, long type, BOOL padded);

@interface CVPixelBuffer : StandIn {
@public
	size_t width, height, bytes_per_row, pixel;
	unsigned format;
	char *bytes;
	int locks;
	unsigned long long flags;
}
/// Copies the pixels without gaps, out of the buffer or into it.
- (void)gather:(void *)pixels;
- (void)scatter:(const void *)pixels;
@end

int CVPixelBufferCreate(void *allocator, size_t width, size_t height, unsigned format, void *attributes, id *out);

@interface MLSequence : StandIn {
	long type;
	NSArray *values;
}
+ (id)sequenceWithStringArray:(NSArray *)values;
+ (id)sequenceWithInt64Array:(NSArray *)values;
@end

@interface MLFeatureValue : StandIn {
@public
	long type;
	BOOL undefined;
	long long whole;
	double real;
	id object;
}
+ (id)featureValueWithInt64:(long long)value;
+ (id)featureValueWithDouble:(double)value;
+ (id)featureValueWithString:(NSString *)value;
+ (id)featureValueWithMultiArray:(MLMultiArray *)value;
+ (id)featureValueWithPixelBuffer:(id)value;
+ (id)featureValueWithSequence:(MLSequence *)value;
+ (id)featureValueWithDictionary:(NSDictionary *)value error:(NSError **)error;
@end

/// What providers of features answer to, ours and others.
@protocol Provider
- (NSSet *)featureNames;
- (MLFeatureValue *)featureValueForName:(NSString *)name;
@end

@interface MLDictionaryFeatureProvider : StandIn <Provider> {
	NSDictionary *values;
}
- (id)initWithDictionary:(NSDictionary *)dictionary error:(NSError **)error;
@end

@protocol Batch
- (long)count;
- (id<Provider>)featuresAtIndex:(long)index;
@end

@interface MLArrayBatchProvider : StandIn <Batch> {
	NSArray *providers;
}
- (id)initWithFeatureProviderArray:(NSArray *)array;
@end

@interface MLOptimizationHints : StandIn <NSCopying> {
	long reshape_frequency, specialization_strategy;
}
- (long)reshapeFrequency;
- (long)specializationStrategy;
@end

@interface MLModelConfiguration : StandIn <NSCopying> {
	long units;
	NSString *function, *display_name;
	MLOptimizationHints *hints;
	BOOL low_precision;
}
- (long)computeUnits;
/// Whether these units have the Neural Engine among them, and this machine has one.
- (BOOL)neuralEngine;
- (NSString *)functionName;
- (void)note;
@end

/// The devices of these units, the one that Core ML likes best first.
NSArray *stand_in_devices(long units);
/// The model in a compiled folder; nil with an error where there is none.
NSString *stand_in_model_in(NSURL *compiled, NSError **error);

// The engine that runs models, which is ours: `../engine`.

struct Engine {
	/// Reads a model as far as compiling it needs; what is wrong with it, or null.
	char *(*check)(const char *path);
	/// The structure of a model, as JSON; what is wrong with it in `message`.
	char *(*structure)(const char *path, char **message);
	/// Loads a function of a model, its default where null.
	void *(*load)(const char *path, const char *function, char **message);
	void (*unload)(void *model);
	/// What the model takes and gives, as JSON.
	char *(*describe)(void *model);
	void *(*new_features)(void);
	void (*free_features)(void *features);
	void (*put_array)(void *features, const char *name, long type, const long *shape, long rank, const void *elements);
	void (*put_image)(void *features, const char *name, long width, long height, unsigned format, const void *pixels);
	void (*put_int64)(void *features, const char *name, long long value);
	void (*put_double)(void *features, const char *name, double value);
	void (*put_string)(void *features, const char *name, const char *value);
	/// A state of zeros.
	void *(*new_state)(void *model);
	void (*free_state)(void *state);
	/// Predicts; null with Core ML's code and a message where it fails.
	void *(*predict)(void *model, void *features, void *state, long *code, char **message);
	long (*count)(void *features);
	/// Name and kind of a feature.
	const char *(*feature)(void *features, long index, long *kind);
	const void *(*array)(void *features, long index, long *type, long *rank, const long **shape);
	const void *(*image)(void *features, long index, long *width, long *height, unsigned *format);
	long long (*int64)(void *features, long index);
	double (*real)(void *features, long index);
	const char *(*string)(void *features, long index);
	/// Entries of a dictionary or a sequence. `entry` gives a key that is a word, or null for one that is a number.
	long (*entries)(void *features, long index);
	const char *(*entry)(void *features, long index, long place, long long *key, double *value);
	void (*free_text)(char *text);
};

/// The engine, which engine.m finds.
struct Engine *stand_in_engine(void);
