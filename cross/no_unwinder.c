/* In place of libunwind, 29 kB on MIPS: our binaries hold no unwind tables, so it would find nothing. The standard library
 * asks it for a backtrace after a panic's message and location, and gets an empty one. */
int _Unwind_Backtrace(void *each, void *argument)
{
	(void)each;
	(void)argument;
	return 5; /* _URC_END_OF_STACK */
}

unsigned long _Unwind_GetIP(void *frame)
{
	(void)frame;
	return 0;
}
