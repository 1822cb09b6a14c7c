// Feature values, and what provides them.
#import "stand_in.h"

static BOOL all(NSEnumerator *items, Class class)
{
	for (id item in items)
		if (![item isKindOfClass:class])
			return NO;
	return YES;
}

@implementation MLSequence

+ (id)sequence:(long)type of:(NSArray *)values
{
	MLSequence *sequence = [[self new] autorelease];
	sequence->type = type;
	sequence->values = [values copy];
	return sequence;
}

+ (id)emptySequenceWithType:(long)type { return [self sequence:type of:[NSArray array]]; }
+ (id)sequenceWithStringArray:(NSArray *)values { return [self sequence:STRING of:values]; }
+ (id)sequenceWithInt64Array:(NSArray *)values { return [self sequence:INT64 of:values]; }

- (void)dealloc
{
	[values release];
	[super dealloc];
}

- (long)type { return type; }
- (NSArray *)stringValues { return type == STRING ? [[values retain] autorelease] : [NSArray array]; }
- (NSArray *)int64Values { return type == INT64 ? [[values retain] autorelease] : [NSArray array]; }

@end

@implementation MLFeatureValue

+ (MLFeatureValue *)value:(long)type of:(id)object
{
	MLFeatureValue *value = [[self new] autorelease];
	value->type = type;
	value->object = [object retain];
	return value;
}

+ (id)featureValueWithInt64:(long long)whole
{
	MLFeatureValue *value = [self value:INT64 of:nil];
	value->whole = whole;
	return value;
}

+ (id)featureValueWithDouble:(double)real
{
	MLFeatureValue *value = [self value:DOUBLE of:nil];
	value->real = real;
	return value;
}

+ (id)undefinedFeatureValueWithType:(long)type
{
	MLFeatureValue *value = [self value:type of:nil];
	value->undefined = YES;
	return value;
}

+ (id)featureValueWithString:(NSString *)value { return [self value:STRING of:[[value copy] autorelease]]; }
+ (id)featureValueWithMultiArray:(MLMultiArray *)value { return [self value:MULTI_ARRAY of:value]; }
+ (id)featureValueWithPixelBuffer:(id)value { return [self value:IMAGE of:value]; }
+ (id)featureValueWithSequence:(MLSequence *)value { return [self value:SEQUENCE of:value]; }

+ (id)featureValueWithDictionary:(NSDictionary *)value error:(NSError **)error
{
	BOOL words = all([value keyEnumerator], [NSString class]), numbers = all([value keyEnumerator], [NSNumber class]);
	if ((!words && !numbers) || !all([value objectEnumerator], [NSNumber class])) {
		if (error)
			*error = stand_in_error(1, @"The keys must be all strings or all numbers, and the values numbers.");
		return nil;
	}
	return [self value:DICTIONARY of:[[value copy] autorelease]];
}

- (void)dealloc
{
	[object release];
	[super dealloc];
}

- (long)type { return type; }
- (BOOL)isUndefined { return undefined; }
- (long long)int64Value { return whole; }
- (double)doubleValue { return real; }
- (id)object:(long)kind or:(id)other { return type == kind && object ? [[object retain] autorelease] : other; }
- (NSString *)stringValue { return [self object:STRING or:@""]; }
- (MLMultiArray *)multiArrayValue { return [self object:MULTI_ARRAY or:nil]; }
- (NSDictionary *)dictionaryValue { return [self object:DICTIONARY or:[NSDictionary dictionary]]; }
- (id)imageBufferValue { return [self object:IMAGE or:nil]; }
- (MLSequence *)sequenceValue { return [self object:SEQUENCE or:nil]; }

@end

@implementation MLDictionaryFeatureProvider

- (id)initWithDictionary:(NSDictionary *)dictionary error:(NSError **)error
{
	NSMutableDictionary *converted = [NSMutableDictionary dictionary];
	for (NSString *name in dictionary) {
		id value = [dictionary objectForKey:name];
		if ([value isKindOfClass:[NSString class]])
			value = [MLFeatureValue featureValueWithString:value];
		else if ([value isKindOfClass:[NSNumber class]])
			value = [MLFeatureValue featureValueWithDouble:[value doubleValue]];
		else if ([value isKindOfClass:[MLMultiArray class]])
			value = [MLFeatureValue featureValueWithMultiArray:value];
		if (![value isKindOfClass:[MLFeatureValue class]]) {
			if (error)
				*error = stand_in_error(1, @"The value of %@ is no feature.", name);
			[self release];
			return nil;
		}
		[converted setObject:value forKey:name];
	}
	if ((self = [super init]))
		values = [converted copy];
	return self;
}

- (void)dealloc
{
	[values release];
	[super dealloc];
}

- (NSDictionary *)dictionary { return [[values retain] autorelease]; }
- (NSSet *)featureNames { return [NSSet setWithArray:[values allKeys]]; }
- (MLFeatureValue *)featureValueForName:(NSString *)name { return [[[values objectForKey:name] retain] autorelease]; }
- (MLFeatureValue *)objectForKeyedSubscript:(NSString *)name { return [self featureValueForName:name]; }

@end

@implementation MLArrayBatchProvider

- (id)initWithFeatureProviderArray:(NSArray *)array
{
	if ((self = [super init]))
		providers = [array copy];
	return self;
}

- (void)dealloc
{
	[providers release];
	[super dealloc];
}

- (NSArray *)array { return [[providers retain] autorelease]; }
- (long)count { return [providers count]; }
- (id<Provider>)featuresAtIndex:(long)index { return [[[providers objectAtIndex:index] retain] autorelease]; }

@end
