/* Two faults of DPDK 22.11's memif driver, and their cures. (A third, the crash of the survivor, is
 * gate.h's.)
 *
 * 1. The zero-copy client asks EAL for the file descriptor of its memory (rte_memseg_get_fd), passes it to
 * the server and closes it: once at the end of every connection attempt, good or bad. But the descriptor is
 * EAL's own. From the second connection on the client would pass, and close, whatever file of the program has
 * that number by then. So the program answers that question itself, with a duplicate that the driver may
 * close.
 * 2. The server greets a client as soon as it accepts it. Where the client is dead by then, the greeting
 * fails and the server closes the connection, but leaves it among the descriptors that EAL's interrupt thread
 * watches: at the next change of that set the thread panics and takes the program down. So on that thread a
 * message to an end that is gone counts as sent; the end of file that follows is handled well.
 *
 * Both work because executables that link this library export the two functions, and drivers are loaded after
 * it. */
#pragma once

/* 0; -ENOSYS where the functions called are not ours (a static DPDK). */
int sl_memif_cures_check(void);
/* On EAL's interrupt thread: cure 2 is for it alone. */
void sl_memif_cures_this_thread(void);
/* On that thread: the socket of the last message that the driver sent, so that of its peer while the link is
 * up; -1: none was sent. */
int sl_memif_control_fd(void);
