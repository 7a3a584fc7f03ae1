/* In place of libunwind, 29 kB on MIPS: our binaries hold no unwind tables, so it would find nothing, and a panic ends them
 * anyway. The standard library asks it for a backtrace after a panic's message and location, and gets an empty one. */

int _Unwind_Backtrace(void *each, void *argument)
{
	(void)each;
	(void)argument;
	return 5; /* _URC_END_OF_STACK */
}

/* Named by the standard library, never called where nothing is unwound. */
#define NEVER(name) void name(void) { __builtin_trap(); }
NEVER(_Unwind_DeleteException)
NEVER(_Unwind_FindEnclosingFunction)
NEVER(_Unwind_GetCFA)
NEVER(_Unwind_GetDataRelBase)
NEVER(_Unwind_GetIP)
NEVER(_Unwind_GetIPInfo)
NEVER(_Unwind_GetLanguageSpecificData)
NEVER(_Unwind_GetRegionStart)
NEVER(_Unwind_GetTextRelBase)
NEVER(_Unwind_RaiseException)
NEVER(_Unwind_Resume)
NEVER(_Unwind_SetGR)
NEVER(_Unwind_SetIP)
#ifdef __arm__ /* has its own way of unwinding */
NEVER(__aeabi_unwind_cpp_pr0)
NEVER(__aeabi_unwind_cpp_pr1)
NEVER(__aeabi_unwind_cpp_pr2)
NEVER(_Unwind_VRS_Get)
NEVER(_Unwind_VRS_Set)
NEVER(__gnu_unwind_frame)
#endif

/* Zig's copies a byte at a time. One instruction is shorter, and fast for what is long, too. */
#ifdef __x86_64__
void *memcpy(void *to, const void *from, unsigned long count)
{
	void *start = to;
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
	return start;
}
#endif

/* GCC's MIPS16 code asks its own library for this; the instruction is one of MIPS32. */
#ifdef __mips__
void barrier(void) __asm__("__sync_synchronize");
void barrier(void) { __asm__ volatile("sync" ::: "memory"); }
#endif
