// SPDX-License-Identifier: MIT

// Package runtime, asynchronous file I/O: how completions reach the scheduler.

//go:build linux && (amd64 || arm64)

package runtime

import (
	"internal/runtime/atomic"
	"internal/runtime/syscall/linux"
	"unsafe"
)

// aioSlice is how long, in ns, a goroutine may go on running while the
// operation of another is complete and no P is idle.
const aioSlice = 200 * 1000

// aioInUse reports whether there may be completions. A queue that has died
// still delivers those of operations in flight.
func aioInUse() bool { return aio.queue.Load() != aioNoQueue }

// aioAny reports whether a completion waits in the completion queue.
func aioAny() bool {
	return aio.ring.ready() || aio.linux.ready()
}

// aioReap takes completions off the completion queue and adds their goroutines
// to toRun. The result is what to add to netpollWaiters. Operations that were
// held back while others were in flight are submitted.
func aioReap(toRun *gList) (delta int32) {
	a := &aio
	aioHook()
	if !aioAny() {
		return 0
	}
	lock(&a.cqlock)
	if a.ring.cqTail != nil {
		delta = a.ring.reap(toRun)
	} else {
		delta = a.linux.reap(toRun)
	}
	a.inflight.Add(delta)
	unlock(&a.cqlock)
	if delta != 0 && getg().m.p == 0 && sched.npidle.Load() == 0 {
		a.kick.Store(1)
	}
	return delta
}

// aioComplete gives the operation of slot num its result.
func aioComplete(num uint64, res int32, toRun *gList) {
	s := &aio.slots[num]
	s.res = res
	gp := s.gp.ptr()
	gp.parkingOnChan.Store(false)
	toRun.push(gp)
}

// aioNetpoll is called by netpoll before it waits. If it returns true, netpoll
// returns immediately; every eighth time netpoll looks at the network, too.
func aioNetpoll(toRun *gList, delta *int32, waitms *int32) bool {
	*delta = aioReap(toRun)
	if *delta == 0 {
		return false
	}
	*waitms = 0
	return aio.skips.Add(1)%8 != 0
}

// aioSchedule is called by findRunnable. It returns a goroutine whose operation
// has completed, and makes the others runnable. Without it, a run queue that is
// never empty would keep netpoll from being called.
func aioSchedule() *g {
	a := &aio
	aioHook()
	if a.inflight.Load() == 0 {
		return nil
	}
	if !aioAny() {
		if a.queue.Load() != aioUring || !a.ring.taskWork() || sched.runq.empty() {
			return nil
		}
		// A completion is posted when the thread that submitted the operation
		// enters the kernel. A thread that has other goroutines to run would
		// not enter it soon, so it does so on purpose now and then.
		now := nanotime()
		if a.submitter[getg().m.id&63] == 0 || now-a.lastEnter < 10*1000 {
			return nil
		}
		a.lastEnter = now
		a.ring.getEvents()
		if !aioAny() {
			return nil
		}
	}
	var list gList
	delta := aioReap(&list)
	if list.empty() {
		return nil
	}
	gp := list.pop()
	injectglist(&list)
	netpollAdjustWaiters(delta)
	trace := traceAcquire()
	casgstatus(gp, _Gwaiting, _Grunnable)
	if trace.ok() {
		trace.GoUnpark(gp, 0)
		traceRelease(trace)
	}
	return gp
}

// aioSysmon is called by sysmon. While every P is busy nobody polls, so sysmon
// collects completions. If some wait for a P, or calls that blocked have returned
// and their goroutines wait for a P, it preempts goroutines that have run for
// aioSlice.
func aioSysmon(now int64) {
	a := &aio
	if !aioInUse() && a.blocked.Load() == 0 {
		return
	}
	aioHook() // also while a P is idle
	if n := a.nsubmit.Load(); n != a.lastCount {
		a.lastCount = n
		a.active = now
	}
	if sched.npidle.Load() != 0 {
		a.kick.Store(0)
		return
	}
	if a.inflight.Load() != 0 {
		var list gList
		delta := aioReap(&list)
		aioReady(&list, delta)
		if a.queue.Load() == aioUring && a.ring.taskWork() {
			a.kick.Store(1)
		}
	}
	if a.returned.Load() != 0 {
		a.kick.Store(1)
	}
	if a.kick.Load() == 0 {
		return
	}
	lock(&allpLock)
	for _, pp := range allp {
		if pp == nil || atomic.Load(&pp.status) != _Prunning {
			continue
		}
		tick := &pp.sysmontick
		if tick.schedtick == pp.schedtick && tick.schedwhen+aioSlice <= now {
			preemptone(pp)
			a.kick.Store(0)
		}
	}
	unlock(&allpLock)
}

// aioDelay limits the time, in us, for which sysmon sleeps while operations are
// in use and no P is idle.
func aioDelay(delay uint32) uint32 {
	a := &aio
	blocked := a.blocked.Load() > 0
	if delay <= aioSlice/1000 || !aioInUse() && !blocked || sched.npidle.Load() != 0 {
		return delay
	}
	if blocked || a.inflight.Load() > 0 || a.kick.Load() != 0 || nanotime()-a.active < 20*1000*1000 {
		return aioSlice / 1000
	}
	return delay
}

// aioEpollAdd has epoll report when fd, the ring or an eventfd, becomes
// readable. The event carries the address of aioTag instead of a pollDesc.
func aioEpollAdd(fd int32) bool {
	var ev linux.EpollEvent
	ev.Events = linux.EPOLLIN | linux.EPOLLET
	*(**uintptr)(unsafe.Pointer(&ev.Data)) = &aioTag
	return linux.EpollCtl(epfd, linux.EPOLL_CTL_ADD, fd, &ev) == 0
}

var aioTag uintptr

// aioEvent reports whether an epoll event with this data is of aioEpollAdd.
func aioEvent(data unsafe.Pointer) bool { return *(**uintptr)(data) == &aioTag }

// aioPollDescriptor reports whether fd is a descriptor of this file I/O.
func aioPollDescriptor(fd uintptr) bool {
	return aioInUse() && (aio.ring.cqTail != nil && fd == uintptr(aio.ring.fd) ||
		aio.linux.ring != nil && fd == uintptr(aio.linux.eventfd))
}
