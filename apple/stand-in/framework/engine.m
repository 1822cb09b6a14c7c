// The engine that runs models. It is loaded when a model is first looked at: it is built after this library.
#import "stand_in.h"
#include <dlfcn.h>
#include <pthread.h>

static void *find(void *library, const char *name)
{
	void *function = library ? dlsym(library, name) : 0;
	if (!function) {
		fprintf(stderr, "stand-in: %s\n", dlerror());
		abort();
	}
	return function;
}

static struct Engine engine;

static void load(void)
{
	void *library = dlopen(STAND_IN_ENGINE, RTLD_NOW | RTLD_LOCAL);
#define FIND(name) engine.name = find(library, "engine_" #name);
	FIND(check) FIND(structure) FIND(load) FIND(unload) FIND(describe) FIND(new_features) FIND(free_features)
	FIND(put_array) FIND(put_image) FIND(put_int64) FIND(put_double) FIND(put_string) FIND(new_state) FIND(free_state)
	FIND(predict) FIND(count) FIND(feature) FIND(array) FIND(image) FIND(int64) FIND(real) FIND(string) FIND(entries)
	FIND(entry) FIND(free_text)
}

struct Engine *stand_in_engine(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, load);
	return &engine;
}
