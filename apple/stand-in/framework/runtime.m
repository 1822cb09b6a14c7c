// The entry points of Apple's Objective-C runtime and of Core Foundation that objc2 needs, over GCC's runtime.
#import "stand_in.h"

void stand_in_message(id receiver, SEL selector);

id objc_retain(id object) { return [object retain]; }
void objc_release(id object) { [object release]; }
id objc_autorelease(id object) { return [object autorelease]; }
id objc_retainAutoreleasedReturnValue(id object) { return [object retain]; }
id objc_claimAutoreleasedReturnValue(id object) { return [object retain]; }
id objc_autoreleaseReturnValue(id object) { return [object autorelease]; }
id objc_retainAutorelease(id object) { return [[object retain] autorelease]; }
id objc_retainAutoreleaseReturnValue(id object) { return [[object retain] autorelease]; }
void *objc_autoreleasePoolPush(void) { return [NSAutoreleasePool new]; }
void objc_autoreleasePoolPop(void *pool) { [(NSAutoreleasePool *)pool drain]; }

id objc_alloc(Class class)
{
	stand_in_message((id)class, @selector(alloc));
	return [class alloc];
}

void *CFRetain(void *object) { return [(id)object retain]; }
void CFRelease(void *object) { [(id)object release]; }
void *CFAutorelease(void *object) { return [(id)object autorelease]; }
BOOL CFEqual(void *one, void *other) { return [(id)one isEqual:(id)other]; }
unsigned long CFHash(void *object) { return [(id)object hash]; }
