// SPDX-License-Identifier: MIT

// Package runtime, asynchronous file I/O: the operations.
//
// The kernel's queue of file operations is a second source of the network
// poller. An operation lives as follows:
//
//  1. aioDo takes a slot and parks the goroutine.
//  2. aioCommit runs on g0. The goroutine is already in _Gwaiting, so its
//     completion cannot come too early. It queues the operation.
//  3. aioFlush hands the queued operations to the kernel: at once if this P has
//     nothing else to run or if many operations are queued, otherwise when the P
//     looks for work, when it is handed off, or when sysmon runs.
//  4. aioReap collects completions and makes the goroutines runnable. It is
//     called by netpoll, by findRunnable and by sysmon.
//
// Invariants:
//
//   - A slot belongs to one goroutine from the time aioDo takes it until aioDo
//     returns. Its number is the operation's user data. Slots are not in the Go
//     heap.
//   - At most as many operations are in flight as there are slots, and the
//     completion queue has an entry for each slot: it cannot overflow.
//   - The stack of the goroutine does not move while the kernel may write to it:
//     parkingOnChan forbids the garbage collector to shrink it, and a parked
//     goroutine's stack does not grow.
//   - Nothing here allocates or has write barriers, and no lock is held over a
//     system call.
//   - A goroutine that is locked to its thread never comes here: Linux keeps the
//     descriptor table, the credentials and the namespaces per thread, so the
//     thread must make the call itself.

//go:build linux && (amd64 || arm64)

package runtime

import (
	"internal/runtime/atomic"
	"unsafe"
)

// The kernel interfaces that can carry out operations, the values of
// aioState.queue.
const (
	aioNoQueue   = iota
	aioUring     // io_uring
	aioLinuxAIO  // Linux AIO: transfers with O_DIRECT only
	aioDeadQueue // the kernel refused a call: nothing new is submitted
)

// aioBatch is the number of queued operations at which they are submitted in
// any case.
const aioBatch = 32

// aioMaxBlocked is the number of calls that may block after their goroutines
// have handed over their Ps. Each has a thread.
const aioMaxBlocked = 512

// Errnos that older versions of package runtime do not define.
const (
	aioEPERM  = 1
	aioEBUSY  = 16
	aioEINVAL = 22
	aioENOSYS = 38
)

// aioSlot is one operation.
type aioSlot struct {
	next   atomic.Uint32 // in the free list: the number of the next slot + 1
	num    uint32
	gp     guintptr
	buf    uintptr // address, or distance from the top of the stack of gp
	off    int64
	n      uint32
	fd     int32
	res    int32 // the result, or a negative errno
	opcode uint8
	failed bool // the operation was not carried out
	onStk  bool // buf is a distance
}

type aioState struct {
	queue    atomic.Uint32 // aioNoQueue, aioUring, ...
	pending  atomic.Int32  // operations queued but not yet handed to the kernel
	inflight atomic.Int32  // operations handed to the kernel but not yet reaped

	free  atomic.Uint64 // the free list: a counter against ABA, and a number + 1
	slots *[1 << 20]aioSlot
	sema  uint32 // counts the free slots

	blocked  atomic.Int32 // calls for which a goroutine has handed over its P
	returned atomic.Int32 // those that have returned, but whose goroutines have no P yet

	sqlock mutex // the submission queue
	cqlock mutex // the completion queue

	ring  aioRing  // used if queue is aioUring
	linux aioLinux // used if queue is aioLinuxAIO

	kick  atomic.Uint32 // completions wait until a P looks for work
	skips atomic.Uint32 // times that netpoll had completions to return

	// Hints: lost updates do no harm.
	submitter [64]uint8 // by thread id: the thread has submitted operations
	lastEnter int64     // when a thread last entered the kernel for its completions

	// Used by sysmon only.
	lastCount uint64 // nsubmit at its last tick
	active    int64  // when nsubmit last grew

	nsubmit atomic.Uint64 // operations submitted
	ncall   atomic.Uint64 // system calls that submitted them
}

var aio aioState

// get takes a slot from the free list. The caller has acquired sema, so there
// is one.
func (a *aioState) get() *aioSlot {
	for {
		old := a.free.Load()
		s := &a.slots[uint32(old)-1]
		if a.free.CompareAndSwap(old, (old>>32+1)<<32|uint64(s.next.Load())) {
			return s
		}
	}
}

func (a *aioState) put(s *aioSlot) {
	for {
		old := a.free.Load()
		s.next.Store(uint32(old))
		if a.free.CompareAndSwap(old, (old>>32+1)<<32|uint64(s.num+1)) {
			return
		}
	}
}

// aioStart makes the kernel queue. It returns 0 or the errno with which the
// kernel refused.
//
//go:linkname aioStart internal/poll.runtime_aioStart
func aioStart(queue uint32) int {
	a := &aio
	netpollGenericInit()
	var slots uint32
	var errno int
	if queue == aioUring {
		slots, errno = a.ring.start()
	} else {
		slots, errno = a.linux.start()
	}
	if errno != 0 {
		return errno
	}
	size := uintptr(slots) * unsafe.Sizeof(aioSlot{})
	memory, err := mmap(nil, size, _PROT_READ|_PROT_WRITE, _MAP_ANON|_MAP_PRIVATE, -1, 0)
	if err != 0 {
		return err
	}
	a.slots = (*[1 << 20]aioSlot)(memory)
	for i := slots; i > 0; i-- {
		s := &a.slots[i-1]
		s.num = i - 1
		a.put(s)
	}
	a.sema = slots
	a.queue.Store(queue)
	return 0
}

// aioQueue returns the queue that is in use.
//
//go:linkname aioQueue internal/poll.runtime_aioQueue
func aioQueue() uint32 { return aio.queue.Load() }

// aioCounts returns the numbers of operations that were submitted, of system
// calls that submitted them, and of operations in flight.
//
//go:linkname aioCounts internal/poll.runtime_aioCounts
func aioCounts() (submitted, calls uint64, inflight int32) {
	return aio.nsubmit.Load(), aio.ncall.Load(), max(aio.inflight.Load(), 0)
}

// aioSecure reports whether the process has more rights than its caller.
//
//go:linkname aioSecure internal/poll.runtime_aioSecure
func aioSecure() bool { return isSecureMode() }

// aioLocked reports whether the goroutine is locked to its thread.
//
//go:linkname aioLocked internal/poll.runtime_aioLocked
func aioLocked() bool { return getg().lockedm != 0 }

// aioOthers reports whether this P has other goroutines to run. It returns
// false if the calling goroutine is locked to its thread.
func aioOthers() bool {
	mp := acquirem()
	others := mp.lockedg == 0 && (!runqempty(mp.p.ptr()) || !sched.runq.empty())
	releasem(mp)
	return others
}

// aioAlone reports whether a plain call delays nobody: no other goroutine is
// runnable on this P, and no operation is in flight.
//
//go:linkname aioAlone internal/poll.runtime_aioAlone
func aioAlone() bool {
	return aio.inflight.Load() == 0 && aio.pending.Load() == 0 && !aioOthers()
}

// aioBlockBegin reports whether a goroutine that will block in a system call
// should hand over its P first: another goroutine can use the P, and not too
// many threads are blocked already. If it returns true, the caller calls
// aioBlockEnd after the system call.
//
//go:linkname aioBlockBegin internal/poll.runtime_aioBlockBegin
func aioBlockBegin() bool {
	if !aioOthers() {
		return false
	}
	if aio.blocked.Add(1) > aioMaxBlocked {
		aio.blocked.Add(-1)
		return false
	}
	return true
}

//go:linkname aioBlockEnd internal/poll.runtime_aioBlockEnd
func aioBlockEnd() { aio.blocked.Add(-1) }

// aioReturned counts a call that blocked: delta is 1 when the kernel has completed
// it, and -1 when its goroutine has a P again. It may be called without a P.
//
//go:linkname aioReturned internal/poll.runtime_aioReturned
//go:nosplit
func aioReturned(delta int32) { aio.returned.Add(delta) }

// aioDo carries out one operation and parks the goroutine until it completes.
// It returns false if the operation was not carried out; the caller then makes
// the plain call. The result is a count or a negative errno.
//
//go:linkname aioDo internal/poll.runtime_aioDo
func aioDo(opcode uint8, fd int32, buf unsafe.Pointer, n uint32, off int64) (res int32, ok bool) {
	a := &aio
	gp := getg()
	if gp.lockedm != 0 {
		return 0, false
	}
	if queue := a.queue.Load(); queue != aioUring && queue != aioLinuxAIO {
		return 0, false
	}
	// Waits while more operations are in flight than the kernel queue holds.
	semacquire(&a.sema)
	s := a.get()
	// The goroutine must not be preempted from here until it has parked: a
	// preemption could shrink the stack. aioCommit decrements locks.
	acquirem()
	s.gp.set(gp)
	s.opcode, s.fd, s.n, s.off, s.failed = opcode, fd, n, off, false
	// The stack may still grow, and so move, before gopark runs on g0. An
	// address on it is kept as its distance from the top.
	s.buf = uintptr(buf)
	s.onStk = gp.stack.lo <= s.buf && s.buf < gp.stack.hi
	if s.onStk {
		s.buf = gp.stack.hi - s.buf
	}
	gp.parkingOnChan.Store(true)
	gopark(aioCommit, unsafe.Pointer(s), waitReasonIOWait, traceBlockNet, 2)

	res, ok = s.res, !s.failed
	s.gp = 0
	a.put(s)
	semrelease(&a.sema)
	return res, ok
}

// aioCommit queues the operation of gp, which is in _Gwaiting. It runs on g0.
// It returns false, and gp goes on, if the operation cannot be queued.
func aioCommit(gp *g, slot unsafe.Pointer) bool {
	a := &aio
	s := (*aioSlot)(slot)
	getg().m.locks--
	address := s.buf
	if s.onStk {
		address = gp.stack.hi - s.buf
	}
	for try := 0; ; try++ {
		lock(&a.sqlock)
		queue := a.queue.Load()
		queued := queue == aioUring && a.ring.push(s, address) ||
			queue == aioLinuxAIO && a.linux.push(s, address)
		if queued {
			break
		}
		unlock(&a.sqlock)
		if queue == aioDeadQueue || try == 10 {
			s.failed = true
			gp.parkingOnChan.Store(false)
			return false
		}
		aioFlush() // the submission queue was full
	}
	netpollAdjustWaiters(1)
	pending := a.pending.Add(1)
	unlock(&a.sqlock)
	// From here on another thread may submit the operation and run gp.
	if pending >= aioBatch || 4*pending > a.inflight.Load() || runqempty(getg().m.p.ptr()) {
		aioFlush()
	}
	return true
}

// aioHook hands queued operations to the kernel, if there are any. A thread to
// which a goroutine is locked does not: it may have a descriptor table of its own.
func aioHook() {
	if aio.pending.Load() > 0 && getg().m.lockedg == 0 {
		aioFlush()
	}
}

// aioHandoff is called by handoffp. It returns true if another thread must run
// the P because operations are queued that this thread must not submit. A thread
// that exits (it has no gsignal) was locked; the main thread does not exit.
func aioHandoff() bool {
	if aio.pending.Load() <= 0 {
		return false
	}
	mp := getg().m
	if mp.lockedg != 0 || mp.gsignal == nil || mp == &m0 {
		return true
	}
	aioFlush()
	return false
}

// aioFlush hands the queued operations to the kernel. It does not wait for
// them. It may run with or without a P, and on several threads at once.
func aioFlush() {
	a := &aio
	n := a.pending.Load()
	for n > 0 && !a.pending.CompareAndSwap(n, 0) {
		n = a.pending.Load()
	}
	if n <= 0 {
		return
	}
	a.inflight.Add(n)
	a.nsubmit.Add(int64(n))
	a.submitter[getg().m.id&63] = 1
	alive := false
	if a.queue.Load() == aioLinuxAIO {
		alive = a.linux.submit(n)
	} else {
		alive = a.ring.submit(n)
	}
	if !alive {
		aioDie()
	}
}

// aioDie is called when the kernel refuses to accept operations: the program
// has closed our descriptor, or a seccomp filter was installed. Operations that
// the kernel has not taken fail, so that their goroutines make the plain call.
// Those in flight still complete, because the mapping keeps the ring alive.
func aioDie() {
	a := &aio
	var list gList
	failed := int32(0)
	a.queue.Store(aioDeadQueue)
	a.ring.settle()
	lock(&a.sqlock)
	for {
		s := (*aioSlot)(nil)
		if a.ring.cqTail != nil {
			s = a.ring.pop()
		} else {
			s = a.linux.pop()
		}
		if s == nil {
			break
		}
		aioFail(s, &list)
		failed++
	}
	// Operations that no thread had begun to submit do not count as in flight.
	a.inflight.Add(a.pending.Swap(0) - failed)
	unlock(&a.sqlock)
	aioReady(&list, -failed)
}

// aioFail ends an operation that the kernel has not taken.
func aioFail(s *aioSlot, list *gList) {
	s.failed = true
	gp := s.gp.ptr()
	gp.parkingOnChan.Store(false)
	list.push(gp)
}

// aioReady makes the goroutines of list runnable.
func aioReady(list *gList, delta int32) {
	if list.empty() {
		return
	}
	if getg().m.p == 0 {
		// As in sysmon: pretend that one more thread is running, so that
		// checkdead does not see a deadlock in between.
		incidlelocked(-1)
		injectglist(list)
		incidlelocked(1)
	} else {
		injectglist(list)
	}
	netpollAdjustWaiters(delta)
}
