// Models: configurations, compiling, loading, predicting.
#import "stand_in.h"

NSString *const MLModelErrorDomain = @COREML;

@implementation MLOptimizationHints

- (long)reshapeFrequency { return reshape_frequency; }
- (void)setReshapeFrequency:(long)value { reshape_frequency = value; }
- (long)specializationStrategy { return specialization_strategy; }
- (void)setSpecializationStrategy:(long)value { specialization_strategy = value; }

- (id)copyWithZone:(NSZone *)zone
{
	MLOptimizationHints *copy = [MLOptimizationHints new];
	copy->reshape_frequency = reshape_frequency;
	copy->specialization_strategy = specialization_strategy;
	return copy;
}

@end

@implementation MLModelConfiguration

- (id)init
{
	if ((self = [super init]))
		units = 2;
	return self;
}

- (void)dealloc
{
	[function release];
	[display_name release];
	[hints release];
	[super dealloc];
}

- (id)copyWithZone:(NSZone *)zone
{
	MLModelConfiguration *copy = [MLModelConfiguration new];
	copy->units = units;
	copy->function = [function copy];
	copy->display_name = [display_name copy];
	copy->hints = [hints copy];
	copy->low_precision = low_precision;
	return copy;
}

- (long)computeUnits { return units; }

- (void)setComputeUnits:(long)value
{
	if (value == 3 && !stand_in_at_least(13, 0))
		stand_in_complain("the units CPU and Neural Engine before macOS 13");
	units = value;
}

- (BOOL)neuralEngine { return units >= 2 && stand_in_neural_engine_cores() > 0; }
- (NSString *)functionName { return [[function retain] autorelease]; }
- (void)setFunctionName:(NSString *)value { [function autorelease]; function = [value copy]; }
- (NSString *)modelDisplayName { return [[display_name retain] autorelease]; }
- (void)setModelDisplayName:(NSString *)value { [display_name autorelease]; display_name = [value copy]; }
- (MLOptimizationHints *)optimizationHints { return [[hints copy] autorelease]; }
- (void)setOptimizationHints:(MLOptimizationHints *)value { [hints autorelease]; hints = [value copy]; }
- (BOOL)allowLowPrecisionAccumulationOnGPU { return low_precision; }
- (void)setAllowLowPrecisionAccumulationOnGPU:(BOOL)value { low_precision = value; }

- (void)note
{
	NSString *text = [NSString stringWithFormat:@"units=%ld function=%@ name=%@ low_precision=%d reshape=%ld strategy=%ld",
		units, function ? function : @"-", display_name ? display_name : @"-", low_precision, [hints reshapeFrequency],
		[hints specializationStrategy]];
	stand_in_note_configuration([text UTF8String]);
}

@end

@interface MLPredictionOptions : StandIn {
	NSDictionary *backings;
}
- (NSDictionary *)outputBackings;
@end

@implementation MLPredictionOptions

- (void)dealloc
{
	[backings release];
	[super dealloc];
}

- (NSDictionary *)outputBackings { return backings ? [[backings retain] autorelease] : [NSDictionary dictionary]; }
- (void)setOutputBackings:(NSDictionary *)value { [backings autorelease]; backings = [value copy]; }

@end

@interface MLModelDescription : StandIn {
@public
	NSMutableDictionary *states;
}
@end

@implementation MLModelDescription

- (void)dealloc
{
	[states release];
	[super dealloc];
}

- (NSDictionary *)stateDescriptionsByName { return [[states retain] autorelease]; }

@end

@class MLModel;

@interface MLState : StandIn {
@public
	void *engine_state;
	/// Arrays by name, of an echo.
	NSMutableDictionary *arrays;
	MLModel *model;
	int in_use;
}
@end

@interface MLModel : StandIn {
@public
	MLModelConfiguration *configuration;
	/// The engine's model; null in an echo.
	void *loaded;
	NSDictionary *description;
	/// How many predictions wait for their end, and how many do not.
	int in_use, running;
	int making_states;
}
- (id)predict:(id<Provider>)input options:(MLPredictionOptions *)options state:(MLState *)state error:(NSError **)error;
@end

/// Text of the engine's as a string; the text is freed.
static NSString *text(char *taken)
{
	NSString *text = [NSString stringWithUTF8String:taken ? taken : ""];
	stand_in_engine()->free_text(taken);
	return text;
}

static NSDictionary *json(char *taken)
{
	NSData *data = [text(taken) dataUsingEncoding:NSUTF8StringEncoding];
	return [NSJSONSerialization JSONObjectWithData:data options:0 error:0];
}

// A compiled model is a folder with the model inside, and a file that says which file or folder it is; or that there is
// none, for a model that is an echo: it gives what it takes, and keeps arrays in its state, where
// it declares one.

static NSString *const MARK = @"coremldata.bin", *const ECHO = @"echo", *const ECHO_STATE = @"x";

static NSURL *compile(NSURL *url, NSError **error)
{
	NSFileManager *files = [NSFileManager defaultManager];
	NSString *path = [url path], *name = [[path lastPathComponent] stringByDeletingPathExtension];
	if (![files fileExistsAtPath:path]) {
		*error = stand_in_error(3, @"A valid manifest does not exist at path: %@", path);
		return nil;
	}
	char *wrong = stand_in_engine()->check([path UTF8String]);
	if (wrong) {
		*error = stand_in_error(3, @"Error reading protobuf spec. validator error: %@", text(wrong));
		return nil;
	}
	NSString *unique = [[NSProcessInfo processInfo] globallyUniqueString];
	NSString *folder = [[NSTemporaryDirectory() stringByAppendingPathComponent:unique]
		stringByAppendingPathComponent:[name stringByAppendingPathExtension:@"mlmodelc"]];
	NSString *inner = [@"model" stringByAppendingPathExtension:[path pathExtension]];
	if (![files createDirectoryAtPath:folder withIntermediateDirectories:YES attributes:nil error:error]
		|| ![files copyItemAtPath:path toPath:[folder stringByAppendingPathComponent:inner] error:error]
		|| ![inner writeToFile:[folder stringByAppendingPathComponent:MARK] atomically:NO encoding:NSUTF8StringEncoding
						 error:error])
		return nil;
	return [NSURL fileURLWithPath:folder];
}

NSString *stand_in_model_in(NSURL *compiled, NSError **error)
{
	NSString *mark = [[compiled path] stringByAppendingPathComponent:MARK];
	NSString *inner = [NSString stringWithContentsOfFile:mark encoding:NSUTF8StringEncoding error:0];
	if (!inner) {
		*error = stand_in_error(3, @"Error opening file stream: %@: unspecified iostream_category error", mark);
		return nil;
	}
	return [[compiled path] stringByAppendingPathComponent:inner];
}

// Calls whose end a block is told of, from another thread.

struct Pending {
	id receiver, input, options, state;
	void *handler;
};

static struct Pending *pending(id receiver, id input, id options, id state, void *handler)
{
	struct Pending *pending = malloc(sizeof *pending);
	pending->receiver = [receiver retain];
	pending->input = [input retain];
	pending->options = [options retain];
	pending->state = [state retain];
	pending->handler = _Block_copy(handler);
	return pending;
}

/// What is to be told of a call's end; both are retained.
struct Outcome {
	enum Answer answer;
	id result;
	NSError *error;
};

static struct Outcome outcome(enum Answer answer, id result, NSError *error)
{
	return (struct Outcome){ answer, [result retain], result ? nil : [error retain] };
}

/// Does the work within a pool, and calls the block outside of any: it must not count on one.
static void end(struct Pending *pending, struct Outcome (*work)(struct Pending *))
{
	NSAutoreleasePool *pool = [NSAutoreleasePool new];
	struct Outcome told = work(pending);
	[pool drain];
	for (int times = told.answer == SILENCE ? 0 : told.answer == TWICE ? 2 : 1; times > 0; times--)
		CALL(pending->handler, TYPES(id, NSError *), told.result, told.error);
	_Block_release(pending->handler);
	pool = [NSAutoreleasePool new];
	[told.result release];
	[told.error release];
	[pending->receiver release];
	[pending->input release];
	[pending->options release];
	[pending->state release];
	[pool drain];
	free(pending);
}

static struct Outcome compile_now(struct Pending *pending)
{
	NSError *error = nil;
	enum Answer answer = stand_in_enter(COMPILE, NO, &error);
	NSURL *url = answer == FAIL ? nil : compile(pending->receiver, &error);
	return outcome(answer, url, error);
}

static MLModel *load(NSURL *url, MLModelConfiguration *configuration, NSError **error);

static struct Outcome load_now(struct Pending *pending)
{
	NSError *error = nil;
	enum Answer answer = stand_in_enter(LOAD, [pending->options neuralEngine], &error);
	MLModel *model = answer == FAIL ? nil : load(pending->receiver, pending->options, &error);
	return outcome(answer, model, error);
}

static struct Outcome predict_now(struct Pending *pending)
{
	MLModel *model = pending->receiver;
	MLState *state = pending->state;
	NSError *error = nil;
	enum Answer answer = stand_in_enter(PREDICT, [model->configuration neuralEngine], &error);
	id result = answer == FAIL ? nil : [model predict:pending->input options:pending->options state:state error:&error];
	if (state)
		__sync_fetch_and_sub(&state->in_use, 1);
	__sync_fetch_and_sub(&model->running, 1);
	return outcome(answer, result, error);
}

static void compile_pending(void *pending) { end(pending, compile_now); }
static void load_pending(void *pending) { end(pending, load_now); }
static void predict_pending(void *pending) { end(pending, predict_now); }

/// Tells of two at a time, where one alone is allowed.
static void use(int *in_use, const char *what)
{
	if (__sync_fetch_and_add(in_use, 1) > 0)
		stand_in_complain("%s is used by two predictions at a time", what);
}

/// A model is used by one prediction that waits for its end, or by any number of others.
static void use_alone(MLModel *model)
{
	use(&model->in_use, "a model");
	if (model->running > 0)
		stand_in_complain("a model is used beside asynchronous predictions");
}

@implementation MLState

- (void)dealloc
{
	if (in_use)
		stand_in_complain("a state is freed while a prediction uses it");
	if (engine_state)
		stand_in_engine()->free_state(engine_state);
	[arrays release];
	[model release];
	[super dealloc];
}

- (void)getMultiArrayForStateNamed:(NSString *)name handler:(void *)handler
{
	if (in_use)
		stand_in_complain("a state is read while a prediction uses it");
	if ([arrays objectForKey:name]) {
		CALL(handler, MLMultiArray *, [arrays objectForKey:name]);
		return;
	}
	// An echo has nothing to lend before its first prediction.
	if (!model->loaded && [name isEqual:ECHO_STATE]) {
		CALL(handler, MLMultiArray *, nil);
		return;
	}
	// The engine does not tell what is in a state.
	for (NSDictionary *state in [model->description objectForKey:@"states"])
		if ([[state objectForKey:@"name"] isEqual:name]) {
			long shape[16], rank = 0;
			for (NSNumber *size in [state objectForKey:@"shape"])
				shape[rank++] = [size longValue];
			MLMultiArray *array = stand_in_array(shape, rank, [[state objectForKey:@"type"] longValue], NO);
			CALL(handler, MLMultiArray *, array);
			return;
		}
	[NSException raise:NSInvalidArgumentException format:@"There is no state %@", name];
}

@end

static MLModel *load(NSURL *url, MLModelConfiguration *configuration, NSError **error)
{
	NSString *path = stand_in_model_in(url, error);
	if (!path)
		return nil;
	[configuration note];
	BOOL echo = [[path lastPathComponent] isEqual:ECHO];
	char *message = 0;
	void *loaded = echo ? 0 : stand_in_engine()->load([path UTF8String], [[configuration functionName] UTF8String], &message);
	if (!loaded && !echo) {
		*error = stand_in_error(0, @"Failed to build the model execution plan using a model architecture file '%@': %@",
			path, text(message));
		return nil;
	}
	MLModel *model = [[MLModel new] autorelease];
	model->configuration = [configuration copy];
	model->loaded = loaded;
	model->description = echo ? nil : [json(stand_in_engine()->describe(loaded)) retain];
	return model;
}

/// Hands an input to the engine; what is wrong with it, or nil.
static NSError *put(void *features, const char *name, MLFeatureValue *value)
{
	struct Engine *engine = stand_in_engine();
	switch (value->type) {
	case INT64:
		engine->put_int64(features, name, value->whole);
		return nil;
	case DOUBLE:
		engine->put_double(features, name, value->real);
		return nil;
	case STRING:
		engine->put_string(features, name, [value->object UTF8String]);
		return nil;
	case MULTI_ARRAY: {
		MLMultiArray *array = value->object;
		long shape[16], rank = 0;
		for (NSNumber *size in array->shape)
			shape[rank++] = [size longValue];
		char *elements = malloc([array count] * 8 + 1);
		[array gather:elements];
		engine->put_array(features, name, array->type, shape, rank, elements);
		stand_in_note_input(name, array->bytes);
		free(elements);
		return nil;
	}
	case IMAGE: {
		CVPixelBuffer *buffer = value->object;
		char *pixels = malloc(buffer->width * buffer->height * buffer->pixel);
		[buffer gather:pixels];
		engine->put_image(features, name, buffer->width, buffer->height, buffer->format, pixels);
		free(pixels);
		return nil;
	}
	default:
		return stand_in_error(1, @"Feature %s is of a type that the model does not take.", name);
	}
}

/// An array with these elements, in the memory that the caller wants where there is some.
static MLMultiArray *filled(const long *shape, long rank, long type, const void *elements, id backing, BOOL padded,
	NSError **error)
{
	MLMultiArray *array = stand_in_array(shape, rank, type, padded);
	if (backing) {
		if (![backing isKindOfClass:[MLMultiArray class]] || ![[backing shape] isEqual:[array shape]]
			|| [backing dataType] != type) {
			*error = stand_in_error(0, @"Failure in -completeOutputBackings:error:.");
			return nil;
		}
		stand_in_event("backing");
		array = backing;
	}
	[array scatter:elements];
	return array;
}

/// A value like this one.
static MLFeatureValue *echo(MLFeatureValue *value, id backing, BOOL padded, NSError **error)
{
	if (value->type == MULTI_ARRAY) {
		MLMultiArray *array = value->object;
		long shape[16], rank = 0;
		for (NSNumber *size in array->shape)
			shape[rank++] = [size longValue];
		char *elements = malloc([array count] * 8 + 1);
		[array gather:elements];
		array = filled(shape, rank, array->type, elements, backing, padded, error);
		free(elements);
		return array ? [MLFeatureValue featureValueWithMultiArray:array] : nil;
	}
	MLFeatureValue *copy = [[MLFeatureValue new] autorelease];
	copy->type = value->type;
	copy->whole = value->whole;
	copy->real = value->real;
	copy->object = [value->object retain];
	return copy;
}

/// A result of the engine's.
static MLFeatureValue *taken(void *features, long index, long kind, id backing, BOOL padded, NSError **error)
{
	struct Engine *engine = stand_in_engine();
	switch (kind) {
	case INT64:
		return [MLFeatureValue featureValueWithInt64:engine->int64(features, index)];
	case DOUBLE:
		return [MLFeatureValue featureValueWithDouble:engine->real(features, index)];
	case STRING:
		return [MLFeatureValue featureValueWithString:[NSString stringWithUTF8String:engine->string(features, index)]];
	case MULTI_ARRAY: {
		const long *shape;
		long type, rank;
		const void *elements = engine->array(features, index, &type, &rank, &shape);
		MLMultiArray *array = filled(shape, rank, type, elements, backing, padded, error);
		return array ? [MLFeatureValue featureValueWithMultiArray:array] : nil;
	}
	case IMAGE: {
		long width, height;
		unsigned format;
		const void *pixels = engine->image(features, index, &width, &height, &format);
		CVPixelBuffer *buffer = nil;
		CVPixelBufferCreate(0, width, height, format, 0, (id *)&buffer);
		[buffer scatter:pixels];
		MLFeatureValue *value = [MLFeatureValue featureValueWithPixelBuffer:buffer];
		[buffer release];
		return value;
	}
	case DICTIONARY: {
		NSMutableDictionary *entries = [NSMutableDictionary dictionary];
		for (long i = 0; i < engine->entries(features, index); i++) {
			long long whole;
			double number;
			const char *word = engine->entry(features, index, i, &whole, &number);
			id key = word ? (id)[NSString stringWithUTF8String:word] : (id)[NSNumber numberWithLongLong:whole];
			[entries setObject:[NSNumber numberWithDouble:number] forKey:key];
		}
		return [MLFeatureValue featureValueWithDictionary:entries error:error];
	}
	case SEQUENCE: {
		NSMutableArray *items = [NSMutableArray array];
		BOOL words = YES;
		for (long i = 0; i < engine->entries(features, index); i++) {
			long long whole;
			double number;
			const char *word = engine->entry(features, index, i, &whole, &number);
			words = word != 0;
			[items addObject:word ? (id)[NSString stringWithUTF8String:word] : (id)[NSNumber numberWithLongLong:whole]];
		}
		MLSequence *sequence =
			words ? [MLSequence sequenceWithStringArray:items] : [MLSequence sequenceWithInt64Array:items];
		return [MLFeatureValue featureValueWithSequence:sequence];
	}
	default:
		*error = stand_in_error(0, @"The engine gave a feature of the kind %ld.", kind);
		return nil;
	}
}

@implementation MLModel

+ (NSURL *)compileModelAtURL:(NSURL *)url error:(NSError **)error
{
	NSError *failed = nil;
	enum Answer end = stand_in_enter(COMPILE, NO, &failed);
	NSURL *compiled = end == FAIL || end == SILENCE ? nil : compile(url, &failed);
	if (!compiled && error)
		*error = failed;
	return compiled;
}

+ (void)compileModelAtURL:(NSURL *)url completionHandler:(void *)handler
{
	stand_in_spawn(compile_pending, pending(url, nil, nil, nil, handler));
}

+ (MLModel *)modelWithContentsOfURL:(NSURL *)url configuration:(MLModelConfiguration *)configuration error:(NSError **)error
{
	NSError *failed = nil;
	enum Answer end = stand_in_enter(LOAD, [configuration neuralEngine], &failed);
	MLModel *model = end == FAIL || end == SILENCE ? nil : load(url, configuration, &failed);
	if (!model && error)
		*error = failed;
	return model;
}

+ (void)loadContentsOfURL:(NSURL *)url configuration:(MLModelConfiguration *)configuration completionHandler:(void *)handler
{
	stand_in_spawn(load_pending, pending(url, nil, [[configuration copy] autorelease], nil, handler));
}

+ (NSArray *)availableComputeDevices { return stand_in_devices(2); }

- (void)dealloc
{
	if (loaded)
		stand_in_engine()->unload(loaded);
	[configuration release];
	[description release];
	[super dealloc];
}

- (MLModelDescription *)modelDescription
{
	MLModelDescription *told = [[MLModelDescription new] autorelease];
	told->states = [NSMutableDictionary new];
	if (!loaded)
		[told->states setObject:[NSNull null] forKey:ECHO_STATE];
	for (NSDictionary *state in [description objectForKey:@"states"])
		[told->states setObject:[NSNull null] forKey:[state objectForKey:@"name"]];
	return told;
}

- (MLModelConfiguration *)configuration { return [[configuration copy] autorelease]; }

/// What an echo gives: its inputs, but those that its state has already; of these what the state had.
- (id)echo:(id<Provider>)input options:(MLPredictionOptions *)options state:(MLState *)state error:(NSError **)error
{
	NSMutableDictionary *outputs = [NSMutableDictionary dictionary];
	for (NSString *name in [input featureNames]) {
		MLFeatureValue *value = [input featureValueForName:name];
		if (value->type == MULTI_ARRAY)
			stand_in_note_input([name UTF8String], ((MLMultiArray *)value->object)->bytes);
		id backing = [[options outputBackings] objectForKey:name], before = state ? [state->arrays objectForKey:name] : nil;
		MLFeatureValue *output = before ? [MLFeatureValue featureValueWithMultiArray:before] : value;
		output = echo(output, backing, [configuration neuralEngine], error);
		if (!output)
			return nil;
		[outputs setObject:output forKey:name];
		if (state && value->type == MULTI_ARRAY)
			[state->arrays setObject:echo(value, nil, NO, error)->object forKey:name];
	}
	return [[[MLDictionaryFeatureProvider alloc] initWithDictionary:outputs error:error] autorelease];
}

- (id)predict:(id<Provider>)input options:(MLPredictionOptions *)options state:(MLState *)state error:(NSError **)error
{
	if (state && state->model != self)
		stand_in_complain("a prediction is given the state of another model");
	if (!loaded)
		return [self echo:input options:options state:state error:error];
	struct Engine *engine = stand_in_engine();
	if ([[description objectForKey:@"states"] count] && !state) {
		*error = stand_in_error(0, @"The model has states, and the prediction was given none.");
		return nil;
	}
	void *features = engine->new_features();
	NSError *wrong = nil;
	for (NSDictionary *declared in [description objectForKey:@"inputs"]) {
		NSString *name = [declared objectForKey:@"name"];
		MLFeatureValue *value = [input featureValueForName:name];
		if (value && !value->undefined)
			wrong = put(features, [name UTF8String], value);
		else if (![[declared objectForKey:@"optional"] boolValue])
			wrong = stand_in_error(1, @"Feature %@ is required but not specified.", name);
		if (wrong)
			break;
	}
	long code = 0;
	char *message = 0;
	void *results = wrong ? 0 : engine->predict(loaded, features, state ? state->engine_state : 0, &code, &message);
	engine->free_features(features);
	if (!wrong && !results)
		wrong = stand_in_error(code, @"%@", text(message));
	NSMutableDictionary *outputs = [NSMutableDictionary dictionary];
	for (long i = 0; results && !wrong && i < engine->count(results); i++) {
		long kind;
		NSString *name = [NSString stringWithUTF8String:engine->feature(results, i, &kind)];
		id backing = [[options outputBackings] objectForKey:name];
		MLFeatureValue *value = taken(results, i, kind, backing, [configuration neuralEngine], &wrong);
		if (value)
			[outputs setObject:value forKey:name];
	}
	if (results)
		engine->free_features(results);
	if (wrong) {
		*error = wrong;
		return nil;
	}
	return [[[MLDictionaryFeatureProvider alloc] initWithDictionary:outputs error:error] autorelease];
}

- (id)predictionFromFeatures:(id)input usingState:(MLState *)state options:(MLPredictionOptions *)options error:(NSError **)error
{
	NSError *failed = nil;
	use_alone(self);
	if (state)
		use(&state->in_use, "a state");
	enum Answer end = stand_in_enter(PREDICT, [configuration neuralEngine], &failed);
	id result = end == FAIL || end == SILENCE ? nil : [self predict:input options:options state:state error:&failed];
	if (state)
		__sync_fetch_and_sub(&state->in_use, 1);
	__sync_fetch_and_sub(&in_use, 1);
	if (!result && error)
		*error = failed;
	return result;
}

- (id)predictionFromFeatures:(id)input options:(MLPredictionOptions *)options error:(NSError **)error
{
	return [self predictionFromFeatures:input usingState:nil options:options error:error];
}

- (id)predictionFromFeatures:(id)input error:(NSError **)error
{
	return [self predictionFromFeatures:input usingState:nil options:nil error:error];
}

- (void)predictionFromFeatures:(id)input usingState:(MLState *)state options:(id)options completionHandler:(void *)handler
{
	if (state)
		use(&state->in_use, "a state");
	__sync_fetch_and_add(&running, 1);
	if (in_use)
		stand_in_complain("a model is used by two predictions at a time");
	stand_in_spawn(predict_pending, pending(self, input, options, state, handler));
}

- (void)predictionFromFeatures:(id)input options:(id)options completionHandler:(void *)handler
{
	[self predictionFromFeatures:input usingState:nil options:options completionHandler:handler];
}

- (void)predictionFromFeatures:(id)input completionHandler:(void *)handler
{
	[self predictionFromFeatures:input usingState:nil options:nil completionHandler:handler];
}

- (id)predictionsFromBatch:(id<Batch>)batch options:(id)options error:(NSError **)error
{
	// A batch does not use the caller's memory.
	NSError *failed = nil;
	use_alone(self);
	enum Answer end = stand_in_enter(PREDICT, [configuration neuralEngine], &failed);
	NSMutableArray *results = end == FAIL || end == SILENCE ? nil : [NSMutableArray array];
	for (long i = 0; results && i < [batch count]; i++) {
		id result = [self predict:[batch featuresAtIndex:i] options:nil state:nil error:&failed];
		if (result)
			[results addObject:result];
		else
			results = nil;
	}
	__sync_fetch_and_sub(&in_use, 1);
	if (!results && error)
		*error = failed;
	return results ? [[[MLArrayBatchProvider alloc] initWithFeatureProviderArray:results] autorelease] : nil;
}

- (MLState *)newState
{
	if (__sync_fetch_and_add(&making_states, 1) > 0)
		stand_in_complain("a model makes two states at a time");
	stand_in_enter(NEW_STATE, NO, 0);
	MLState *state = [MLState new];
	state->model = [self retain];
	state->engine_state = loaded ? stand_in_engine()->new_state(loaded) : 0;
	state->arrays = [NSMutableDictionary new];
	__sync_fetch_and_sub(&making_states, 1);
	return state;
}

@end
