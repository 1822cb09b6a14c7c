// What must be in the executable itself, since its symbols come before those of every library.

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

// The class of an object. GCC's headers have this as an inline function alone; objc2 wants the symbol.

struct Object { void *isa; };

void *object_getClass(struct Object *object) { return object ? object->isa : 0; }

// Messages. Those that the executable itself sends are shown to the stand-in, which knows since when selectors are there.

extern void stand_in_message(void *receiver, void *selector);
extern char __ehdr_start[] __attribute__((visibility("hidden")));
extern char etext[] __attribute__((visibility("hidden")));

typedef void *Lookup(void *receiver, void *selector);

void *objc_msg_lookup(void *receiver, void *selector)
{
	static Lookup *_Atomic next;
	Lookup *lookup = next;
	if (!lookup)
		next = lookup = (Lookup *)dlsym(RTLD_NEXT, "objc_msg_lookup");
	char *from = __builtin_return_address(0);
	if (receiver && from >= __ehdr_start && from < etext)
		stand_in_message(receiver, selector);
	return lookup(receiver, selector);
}

// Blocks, by clang's ABI. GNUstep has its own, which leave out blocks without a flag that clang no longer sets.

extern void stand_in_count(const char *class_name, long change);

struct Descriptor {
	unsigned long reserved, size;
	void (*copy)(void *, const void *);
	void (*dispose)(const void *);
};

struct Block {
	void *isa;
	_Atomic int flags;
	int reserved;
	void (*invoke)(void);
	struct Descriptor *descriptor;
};

enum { ONE = 2, COUNT = 0xfffe, ON_HEAP = 1 << 24, HAS_COPY = 1 << 25, IS_GLOBAL = 1 << 28 };

void *_NSConcreteStackBlock[32], *_NSConcreteGlobalBlock[32], *_NSConcreteMallocBlock[32];

void *_Block_copy(const void *pointer)
{
	struct Block *block = (struct Block *)pointer;
	if (!block || block->flags & IS_GLOBAL)
		return block;
	if (block->flags & ON_HEAP) {
		block->flags += ONE;
		return block;
	}
	struct Block *copy = malloc(block->descriptor->size);
	memcpy(copy, block, block->descriptor->size);
	copy->flags = (copy->flags & ~COUNT) | ON_HEAP | ONE;
	copy->isa = _NSConcreteMallocBlock;
	if (copy->flags & HAS_COPY)
		block->descriptor->copy(copy, block);
	stand_in_count("block", 1);
	return copy;
}

void _Block_release(const void *pointer)
{
	struct Block *block = (struct Block *)pointer;
	if (!block || !(block->flags & ON_HEAP))
		return;
	int flags = (block->flags -= ONE);
	if (flags & COUNT)
		return;
	if (flags & HAS_COPY)
		block->descriptor->dispose(block);
	free(block);
	stand_in_count("block", -1);
}
