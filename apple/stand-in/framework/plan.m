// Compute devices, the structure of models, and where their operations would run.
#import "stand_in.h"

@interface MLCPUComputeDevice : StandIn
@end
@implementation MLCPUComputeDevice
@end

@interface MLGPUComputeDevice : StandIn
@end
@implementation MLGPUComputeDevice
@end

@interface MLNeuralEngineComputeDevice : StandIn
@end
@implementation MLNeuralEngineComputeDevice
- (long)totalCoreCount { return stand_in_neural_engine_cores(); }
@end

NSArray *stand_in_devices(long units)
{
	NSMutableArray *devices = [NSMutableArray array];
	if (units >= 2 && stand_in_neural_engine_cores() > 0)
		[devices addObject:[[MLNeuralEngineComputeDevice new] autorelease]];
	if (units == 1 || units == 2)
		[devices addObject:[[MLGPUComputeDevice new] autorelease]];
	[devices addObject:[[MLCPUComputeDevice new] autorelease]];
	return devices;
}

/// An object of a model's structure: what the engine wrote of it, with objects made of what is inside.
@interface Structure : StandIn {
@public
	NSDictionary *facts;
}
@end

@implementation Structure

+ (id)with:(NSDictionary *)facts
{
	Structure *structure = [[self new] autorelease];
	structure->facts = [facts retain];
	return structure;
}

+ (NSArray *)withAll:(NSArray *)all
{
	NSMutableArray *structures = [NSMutableArray array];
	for (NSDictionary *facts in all)
		[structures addObject:[self with:facts]];
	return structures;
}

- (void)dealloc
{
	[facts release];
	[super dealloc];
}

- (id)fact:(NSString *)name { return [[[facts objectForKey:name] retain] autorelease]; }

@end

@interface MLModelStructureProgramNamedValueType : Structure
@end
@implementation MLModelStructureProgramNamedValueType
- (NSString *)name { return [self fact:@"name"]; }
@end

@interface MLModelStructureProgramBlock : Structure
@end

@interface MLModelStructureProgramOperation : Structure
@end
@implementation MLModelStructureProgramOperation
- (NSString *)operatorName { return [self fact:@"operator"]; }
- (NSArray *)outputs { return [MLModelStructureProgramNamedValueType withAll:[self fact:@"outputs"]]; }
- (NSArray *)blocks { return [MLModelStructureProgramBlock withAll:[self fact:@"blocks"]]; }
@end

@implementation MLModelStructureProgramBlock
- (NSArray *)inputs { return [MLModelStructureProgramNamedValueType withAll:[self fact:@"inputs"]]; }
- (NSArray *)outputNames { return [self fact:@"outputs"]; }
- (NSArray *)operations { return [MLModelStructureProgramOperation withAll:[self fact:@"operations"]]; }
@end

@interface MLModelStructureProgramFunction : Structure
@end
@implementation MLModelStructureProgramFunction
- (NSArray *)inputs { return [MLModelStructureProgramNamedValueType withAll:[self fact:@"inputs"]]; }
- (MLModelStructureProgramBlock *)block { return [MLModelStructureProgramBlock with:[self fact:@"block"]]; }
@end

@interface MLModelStructureProgram : Structure
@end
@implementation MLModelStructureProgram
- (NSDictionary *)functions
{
	NSMutableDictionary *functions = [NSMutableDictionary dictionary];
	for (NSString *name in [self fact:@"functions"])
		[functions setObject:[MLModelStructureProgramFunction with:[[self fact:@"functions"] objectForKey:name]] forKey:name];
	return functions;
}
@end

@interface MLModelStructureNeuralNetworkLayer : Structure
@end
@implementation MLModelStructureNeuralNetworkLayer
- (NSString *)name { return [self fact:@"name"]; }
- (NSString *)type { return [self fact:@"type"]; }
- (NSArray *)inputNames { return [self fact:@"inputs"]; }
- (NSArray *)outputNames { return [self fact:@"outputs"]; }
@end

@interface MLModelStructureNeuralNetwork : Structure
@end
@implementation MLModelStructureNeuralNetwork
- (NSArray *)layers { return [MLModelStructureNeuralNetworkLayer withAll:[self fact:@"layers"]]; }
@end

@interface MLModelStructure : Structure
@end

@interface MLModelStructurePipeline : Structure
@end
@implementation MLModelStructurePipeline
- (NSArray *)subModelNames { return [self fact:@"names"]; }
- (NSArray *)subModels { return [MLModelStructure withAll:[self fact:@"models"]]; }
@end

@implementation MLModelStructure
- (id)part:(NSString *)name as:(Class)class { return [self fact:name] ? [class with:[self fact:name]] : nil; }
- (id)program { return [self part:@"program" as:[MLModelStructureProgram class]]; }
- (id)neuralNetwork { return [self part:@"neuralNetwork" as:[MLModelStructureNeuralNetwork class]]; }
- (id)pipeline { return [self part:@"pipeline" as:[MLModelStructurePipeline class]]; }
@end

@interface MLComputePlanDeviceUsage : StandIn {
@public
	NSArray *devices;
}
@end
@implementation MLComputePlanDeviceUsage
- (void)dealloc
{
	[devices release];
	[super dealloc];
}
- (NSArray *)supportedComputeDevices { return [[devices retain] autorelease]; }
- (id)preferredComputeDevice { return [[[devices objectAtIndex:0] retain] autorelease]; }
@end

@interface MLComputePlanCost : StandIn {
@public
	double weight;
}
@end
@implementation MLComputePlanCost
- (double)weight { return weight; }
@end

@interface MLComputePlan : StandIn {
@public
	NSDictionary *structure;
	long units;
}
@end

struct Planning {
	NSURL *url;
	MLModelConfiguration *configuration;
	void *handler;
};

static void plan(void *pointer)
{
	struct Planning *planning = pointer;
	NSAutoreleasePool *pool = [NSAutoreleasePool new];
	NSError *error = nil;
	enum Answer end = stand_in_enter(PLAN, NO, &error);
	NSString *path = end == FAIL ? nil : stand_in_model_in(planning->url, &error);
	char *message = 0, *json = path ? stand_in_engine()->structure([path UTF8String], &message) : 0;
	MLComputePlan *plan = nil;
	if (json) {
		plan = [[MLComputePlan new] autorelease];
		NSString *written = [NSString stringWithUTF8String:json];
		if (end == HOLLOW)
			written = [written stringByReplacingOccurrencesOfString:@"\"operator\"" withString:@"\"none\""];
		NSData *data = [written dataUsingEncoding:NSUTF8StringEncoding];
		plan->structure = [[NSJSONSerialization JSONObjectWithData:data options:0 error:0] retain];
		plan->units = [planning->configuration computeUnits];
		stand_in_engine()->free_text(json);
	}
	if (message) {
		error = stand_in_error(0, @"%s", message);
		stand_in_engine()->free_text(message);
	}
	[plan retain];
	[error retain];
	[pool drain];
	// The block must not count on a pool.
	for (int times = end == SILENCE ? 0 : end == TWICE ? 2 : 1; times > 0; times--)
		CALL(planning->handler, TYPES(id, NSError *), plan, plan ? nil : error);
	_Block_release(planning->handler);
	pool = [NSAutoreleasePool new];
	[plan release];
	[error release];
	[planning->url release];
	[planning->configuration release];
	[pool drain];
	free(planning);
}

/// Of an operation that runs: what the engine wrote of it says whether the Neural Engine takes it.
static MLComputePlanDeviceUsage *usage(Structure *operation, long units)
{
	if ([[operation fact:@"constant"] boolValue])
		return nil;
	MLComputePlanDeviceUsage *usage = [[MLComputePlanDeviceUsage new] autorelease];
	BOOL refused = [[operation fact:@"cpu"] boolValue];
	usage->devices = [stand_in_devices(refused ? 0 : units) retain];
	return usage;
}

@implementation MLComputePlan

+ (void)loadContentsOfURL:(NSURL *)url configuration:(MLModelConfiguration *)configuration completionHandler:(void *)handler
{
	struct Planning *planning = malloc(sizeof *planning);
	planning->url = [url retain];
	planning->configuration = [configuration copy];
	planning->handler = _Block_copy(handler);
	stand_in_spawn(plan, planning);
}

- (void)dealloc
{
	[structure release];
	[super dealloc];
}

- (MLModelStructure *)modelStructure { return [MLModelStructure with:structure]; }
- (id)computeDeviceUsageForMLProgramOperation:(Structure *)operation { return usage(operation, units); }
- (id)computeDeviceUsageForNeuralNetworkLayer:(Structure *)layer { return usage(layer, units); }

- (id)estimatedCostOfMLProgramOperation:(Structure *)operation
{
	NSNumber *weight = [operation fact:@"cost"];
	if (!weight)
		return nil;
	MLComputePlanCost *cost = [[MLComputePlanCost new] autorelease];
	cost->weight = [weight doubleValue];
	return cost;
}

@end
