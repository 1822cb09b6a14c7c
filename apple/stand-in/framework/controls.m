// What tests ask of the stand-in, and what it tells them. `../src/lib.rs` is how they do it.
#import "stand_in.h"
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

#define LOCKED for (int once = (pthread_mutex_lock(&lock), 1); once; once = (pthread_mutex_unlock(&lock), 0))

// Instances that are alive.

static struct { const char *name; long live; } counts[64];

void stand_in_count(const char *name, long change)
{
	LOCKED {
		int i = 0;
		while (counts[i].name && strcmp(counts[i].name, name))
			i++;
		counts[i].name = name;
		counts[i].live += change;
	}
}

long stand_in_live(const char *name)
{
	long live = 0;
	LOCKED {
		for (int i = 0; counts[i].name; i++)
			if (!strcmp(counts[i].name, name))
				live = counts[i].live;
	}
	return live;
}

@implementation StandIn

+ (id)allocWithZone:(NSZone *)zone
{
	stand_in_count(class_getName(self), 1);
	return [super allocWithZone:zone];
}

- (void)dealloc
{
	stand_in_count(object_getClassName(self), -1);
	// As Apple's own may; without a pool it is told of, and stays.
	[[NSObject new] autorelease];
	[super dealloc];
}

@end

// What was done.

static char complaints[1 << 16], events[1 << 16], configuration[1024];
static struct { char name[64]; const void *elements; } inputs[16];

static void add_line(char *to, size_t size, const char *line)
{
	size_t used = strlen(to);
	snprintf(to + used, size - used, "%s\n", line);
}

void stand_in_complain(const char *format, ...)
{
	char line[512];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(line, sizeof line, format, arguments);
	va_end(arguments);
	fprintf(stderr, "stand-in: %s\n", line);
	LOCKED { add_line(complaints, sizeof complaints, line); }
}

void stand_in_event(const char *name)
{
	LOCKED { add_line(events, sizeof events, name); }
}

void stand_in_note_configuration(const char *text)
{
	LOCKED { snprintf(configuration, sizeof configuration, "%s", text); }
}

void stand_in_note_input(const char *name, const void *elements)
{
	LOCKED {
		int i = 0;
		while (i < 15 && *inputs[i].name && strcmp(inputs[i].name, name))
			i++;
		snprintf(inputs[i].name, sizeof inputs[i].name, "%s", name);
		inputs[i].elements = elements;
	}
}

const void *stand_in_input_address(const char *name)
{
	const void *elements = 0;
	LOCKED {
		for (int i = 0; i < 16; i++)
			if (!strcmp(inputs[i].name, name))
				elements = inputs[i].elements;
	}
	return elements;
}

static char *copy_of(const char *text)
{
	char *copy = 0;
	LOCKED { copy = strdup(text); }
	return copy;
}

/// Gives the complaints, and forgets them.
char *stand_in_complaints(void)
{
	char *taken = 0;
	LOCKED {
		taken = strdup(complaints);
		*complaints = 0;
	}
	return taken;
}

char *stand_in_events(void) { return copy_of(events); }
char *stand_in_configuration(void) { return copy_of(configuration); }

// The pretended system.

static struct { long major, minor, patch; } system_version;
static long neural_engine_cores, thermal_state;
static BOOL low_power;

long stand_in_neural_engine_cores(void) { return neural_engine_cores; }

BOOL stand_in_at_least(long major, long minor)
{
	return system_version.major > major || (system_version.major == major && system_version.minor >= minor);
}

void stand_in_set_system(long major, long minor, long patch)
{
	system_version.major = major;
	system_version.minor = minor;
	system_version.patch = patch;
}

void stand_in_set_neural_engine_cores(long cores) { neural_engine_cores = cores; }

NSString *const NSProcessInfoThermalStateDidChangeNotification = @"NSProcessInfoThermalStateDidChangeNotification";
NSString *const NSProcessInfoPowerStateDidChangeNotification = @"NSProcessInfoPowerStateDidChangeNotification";

/// Tells whoever observes, on a thread of its own as the system does.
static void announce(void *name)
{
	NSAutoreleasePool *pool = [NSAutoreleasePool new];
	[[NSNotificationCenter defaultCenter] postNotificationName:name object:[NSProcessInfo processInfo]];
	[pool drain];
}

void stand_in_set_thermal_state(long state)
{
	thermal_state = state;
	stand_in_spawn(announce, NSProcessInfoThermalStateDidChangeNotification);
}

void stand_in_set_low_power(BOOL on)
{
	low_power = on;
	stand_in_spawn(announce, NSProcessInfoPowerStateDidChangeNotification);
}

typedef struct { long majorVersion, minorVersion, patchVersion; } Version;

@interface NSProcessInfo (StandIn)
@end

@implementation NSProcessInfo (StandIn)

- (Version)operatingSystemVersion
{
	Version version = { system_version.major, system_version.minor, system_version.patch };
	return version;
}

- (long)thermalState { return thermal_state; }
- (BOOL)isLowPowerModeEnabled { return low_power; }

@end

// GNUstep gives an observer with a reference that nobody owns. On Apple's systems it is autoreleased.

static IMP add_observer;

static id add_observer_as_apple(id center, SEL selector, NSString *name, id object, id queue, void *block)
{
	return [((id (*)(id, SEL, id, id, id, void *))add_observer)(center, selector, name, object, queue, block) autorelease];
}

@interface Mended : NSObject
@end

@implementation Mended

+ (void)load
{
	SEL selector = @selector(addObserverForName:object:queue:usingBlock:);
	Method method = class_getInstanceMethod([NSNotificationCenter class], selector);
	add_observer = method_setImplementation(method, (IMP)add_observer_as_apple);
}

@end

// What the next calls do.

static struct Plan {
	/// How it ends.
	enum Answer answer;
	/// How long it takes; until `stand_in_let_go` where it is below zero.
	long milliseconds;
	/// How many calls it is for, besides the next.
	long more;
	char domain[64], message[256];
	long code;
} next[CALLS];

static int neural_engine_signal;
static long let_gone, hanging;

static const char *const CALL_NAMES[CALLS] = { "compile", "load", "predict", "plan", "state" };

static struct Plan *plan_of(const char *call)
{
	for (int i = 0; i < CALLS; i++)
		if (!strcmp(CALL_NAMES[i], call))
			return &next[i];
	abort();
}

void stand_in_next_fails(const char *call, const char *domain, long code, const char *message)
{
	LOCKED {
		struct Plan *plan = plan_of(call);
		plan->answer = FAIL;
		plan->code = code;
		snprintf(plan->domain, sizeof plan->domain, "%s", domain);
		snprintf(plan->message, sizeof plan->message, "%s", message);
	}
}

void stand_in_next_takes(const char *call, long milliseconds)
{
	LOCKED { plan_of(call)->milliseconds = milliseconds; }
}

void stand_in_next_is_silent(const char *call)
{
	LOCKED { plan_of(call)->answer = SILENCE; }
}

void stand_in_next_answers_twice(const char *call)
{
	LOCKED { plan_of(call)->answer = TWICE; }
}

void stand_in_next_is_hollow(const char *call)
{
	LOCKED { plan_of(call)->answer = HOLLOW; }
}

/// What is asked of the next call is asked of so many.
void stand_in_next_count(const char *call, long count)
{
	LOCKED { plan_of(call)->more = count - 1; }
}

void stand_in_neural_engine_raises(int signal) { neural_engine_signal = signal; }

/// Calls that hang at this moment.
long stand_in_hanging(void)
{
	long count = 0;
	LOCKED { count = hanging; }
	return count;
}

void stand_in_let_go(void)
{
	LOCKED {
		let_gone++;
		pthread_cond_broadcast(&changed);
	}
}

/// Ends the process as a fault in a driver does.
static void crash(int signal)
{
	// Rust's handler takes a signal that was sent for one of its own, and goes on: the fault must be a real one.
	char *volatile nowhere = 0;
	if (signal == SIGSEGV)
		*nowhere = 0;
	raise(signal);
}

/// An error without what every error has.
@interface HollowError : NSError
@end
@implementation HollowError
- (NSString *)domain { return nil; }
- (NSString *)localizedDescription { return nil; }
@end

enum Answer stand_in_enter(enum Call call, BOOL on_neural_engine, NSError **error)
{
	struct Plan plan;
	char event[32];
	snprintf(event, sizeof event, "%s", CALL_NAMES[call]);
	stand_in_event(event);
	LOCKED {
		plan = next[call];
		if (next[call].more-- <= 0)
			memset(&next[call], 0, sizeof next[call]);
	}
	if (on_neural_engine && neural_engine_signal)
		crash(neural_engine_signal);
	if (plan.milliseconds > 0)
		usleep(plan.milliseconds * 1000);
	if (plan.milliseconds < 0) {
		LOCKED {
			long before = let_gone;
			hanging++;
			while (let_gone == before)
				pthread_cond_wait(&changed, &lock);
			hanging--;
		}
	}
	if (plan.answer == FAIL && error) {
		NSDictionary *info = [NSDictionary dictionaryWithObject:[NSString stringWithUTF8String:plan.message]
														 forKey:NSLocalizedDescriptionKey];
		*error = [NSError errorWithDomain:[NSString stringWithUTF8String:plan.domain] code:plan.code userInfo:info];
	}
	// A plan that is hollow is one nevertheless.
	if (plan.answer == HOLLOW && call != PLAN && error) {
		*error = [[[HollowError alloc] initWithDomain:@COREML code:0 userInfo:nil] autorelease];
		return FAIL;
	}
	return plan.answer;
}

NSError *stand_in_error(long code, NSString *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	NSString *message = [[[NSString alloc] initWithFormat:format arguments:arguments] autorelease];
	va_end(arguments);
	NSDictionary *info = [NSDictionary dictionaryWithObject:message forKey:NSLocalizedDescriptionKey];
	return [NSError errorWithDomain:@COREML code:code userInfo:info];
}

struct Job { void (*run)(void *); void *job; };

static void *run_job(void *pointer)
{
	struct Job job = *(struct Job *)pointer;
	free(pointer);
	job.run(job.job);
	return 0;
}

void stand_in_spawn(void (*run)(void *), void *pointer)
{
	struct Job *job = malloc(sizeof *job);
	job->run = run;
	job->job = pointer;
	pthread_t thread;
	if (pthread_create(&thread, 0, run_job, job))
		abort();
	pthread_detach(thread);
}

// Since which version the system has which class and selector: the table `apple/selectors.tsv`.

static struct Row { char owner[64], name[96]; long major, minor; } rows[512];
static int row_count;

static struct Row *row(const char *owner, const char *name)
{
	for (int i = 0; i < row_count; i++)
		if (!strcmp(rows[i].owner, owner) && !strcmp(rows[i].name, name))
			return &rows[i];
	return 0;
}

static void read_rows(void)
{
	FILE *file = fopen(STAND_IN_SELECTORS, "r");
	char line[512];
	while (file && fgets(line, sizeof line, file)) {
		struct Row *row = &rows[row_count];
		if (!strncmp(line, "ML", 2) || !strncmp(line, "NSProcessInfo\t", 14))
			row_count += sscanf(line, "%63[^\t]\t%95[^\t]\t%ld.%ld", row->owner, row->name, &row->major, &row->minor) == 4;
	}
	if (!row_count) {
		fprintf(stderr, "stand-in: there is no table of selectors at " STAND_IN_SELECTORS "\n");
		abort();
	}
	fclose(file);
}

/// The row of a selector that a protocol has.
static struct Row *row_of_protocol(const char *name)
{
	for (int i = 0; i < row_count; i++)
		if (!strcmp(rows[i].name, name) && row(rows[i].owner, "protocol"))
			return &rows[i];
	return 0;
}

/// What is known of a message.
struct Known {
	Class class;
	SEL selector;
	/// The class that has a row; null for one that is none of Core ML's.
	const char *owner;
	/// The row of the selector, or null.
	struct Row *found;
};

static struct Known look_up(Class class, BOOL to_class, SEL selector, const char *name)
{
	for (Class owner = class; owner; owner = class_getSuperclass(owner)) {
		const char *owner_name = class_getName(owner);
		struct Row *whole = row(owner_name, "class"), *found = row(owner_name, name);
		if (!whole)
			continue;
		Class root = [NSObject class];
		if (!found && (to_class ? class_getClassMethod(root, selector) : class_getInstanceMethod(root, selector)))
			found = whole;
		if (!found)
			found = row_of_protocol(name);
		return (struct Known){ 0, selector, owner_name, found };
	}
	return (struct Known){ 0, selector, 0, 0 };
}

/// Looks whether the executable may send this message on the pretended system.
void stand_in_message(id receiver, SEL selector)
{
	static struct Known known[1024];
	Class class = object_getClass(receiver);
	unsigned long place = ((unsigned long)class / 32 + (unsigned long)selector / 16) % 1024;
	struct Known here;
	LOCKED { here = known[place]; }
	BOOL to_class = class_isMetaClass(class), seen = here.class == class && here.selector == selector;
	if (seen && (!here.owner || (here.found && stand_in_at_least(here.found->major, here.found->minor))))
		return;
	char name[100];
	snprintf(name, sizeof name, "%c%s", to_class ? '+' : '-', sel_getName(selector));
	if (!seen) {
		here = look_up(to_class ? (Class)receiver : class, to_class, selector, name);
		here.class = class;
		LOCKED { known[place] = here; }
	}
	if (here.owner && !here.found)
		stand_in_complain("%s %s is not in the table of selectors", here.owner, name);
	else if (here.owner && !stand_in_at_least(here.found->major, here.found->minor))
		stand_in_complain("%s %s is used before macOS %ld.%ld", here.owner, name, here.found->major, here.found->minor);
}

// Beginning.

static long number(const char *variable)
{
	const char *text = getenv(variable);
	return text ? atol(text) : 0;
}

/// Makes everything as a test finds it. Child processes are told by environment variables.
void stand_in_reset(void)
{
	LOCKED {
		memset(next, 0, sizeof next);
		memset(inputs, 0, sizeof inputs);
		*complaints = *events = *configuration = 0;
	}
	const char *version = getenv("STAND_IN_SYSTEM");
	stand_in_set_system(26, 0, 0);
	if (version)
		sscanf(version, "%ld.%ld.%ld", &system_version.major, &system_version.minor, &system_version.patch);
	neural_engine_cores = getenv("STAND_IN_CORES") ? number("STAND_IN_CORES") : 16;
	neural_engine_signal = number("STAND_IN_RAISES");
	next[PREDICT].milliseconds = number("STAND_IN_TAKES");
	thermal_state = 0;
	low_power = NO;
}

__attribute__((constructor)) static void begin(void)
{
	read_rows();
	stand_in_reset();
}
