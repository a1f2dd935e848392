// SPDX-License-Identifier: MIT

// Package runtime, asynchronous file I/O: Linux AIO, where io_uring is refused.
//
// It is asynchronous only for transfers of files that were opened with
// O_DIRECT, so it carries out nothing else. Completions are read from the ring
// that the kernel maps; an eventfd reports them to epoll.

//go:build linux && (amd64 || arm64)

package runtime

import (
	"internal/goarch"
	"internal/runtime/atomic"
	"internal/runtime/syscall/linux"
	"unsafe"
)

const (
	_SYS_io_setup  = 206*goarch.IsAmd64 + 0*goarch.IsArm64
	_SYS_io_submit = 209*goarch.IsAmd64 + 2*goarch.IsArm64
	_SYS_eventfd2  = 290*goarch.IsAmd64 + 19*goarch.IsArm64

	_IOCB_CMD_PREAD  = 0
	_IOCB_CMD_PWRITE = 1
	_IOCB_FLAG_RESFD = 1

	_IORING_OP_READ = 22 // the opcodes of slots are those of io_uring

	linuxAIORingMagic = 0xa10a10a1
	linuxAIOSlots     = 1024
)

type linuxIOCB struct {
	data     uint64
	key      uint32
	rwFlags  uint32
	opcode   uint16
	priority int16
	fd       uint32
	buf      uint64
	n        uint64
	off      int64
	reserved uint64
	flags    uint32
	eventfd  uint32
}

type linuxEvent struct {
	data, iocb uint64
	res, res2  int64
}

// linuxRing is the head of the ring of completions.
type linuxRing struct {
	id, size, head, tail               uint32
	magic, compat, incompat, headerLen uint32
}

type aioLinux struct {
	context uintptr
	eventfd int32
	ring    *linuxRing // nil if Linux AIO is not in use

	// The submission queue: numbers of slots, from head to tail.
	head, tail uint32
	queue      [linuxAIOSlots]uint32
	iocbs      *[linuxAIOSlots]linuxIOCB
}

// start makes an AIO context. It returns the number of operations that it
// holds, or an errno.
func (l *aioLinux) start() (slots uint32, errno int) {
	var context uintptr
	_, _, e := linux.Syscall6(_SYS_io_setup, linuxAIOSlots,
		uintptr(noescape(unsafe.Pointer(&context))), 0, 0, 0, 0)
	if e != 0 {
		return 0, int(e)
	}
	ring := (*linuxRing)(unsafe.Pointer(context))
	if ring.magic != linuxAIORingMagic || ring.incompat != 0 {
		return 0, aioENOSYS
	}
	// A filter that refuses io_submit shows now rather than at the first read.
	if _, _, e = linux.Syscall6(_SYS_io_submit, context, 0, 0, 0, 0, 0); e != 0 {
		return 0, int(e)
	}
	const flags = 0x80800 // EFD_CLOEXEC | EFD_NONBLOCK
	fd, _, e := linux.Syscall6(_SYS_eventfd2, 0, flags, 0, 0, 0, 0)
	if e != 0 {
		return 0, int(e)
	}
	memory, errno := mmap(nil, linuxAIOSlots*unsafe.Sizeof(linuxIOCB{}), _PROT_READ|_PROT_WRITE,
		_MAP_ANON|_MAP_PRIVATE, -1, 0)
	if errno == 0 && !aioEpollAdd(int32(fd)) {
		errno = aioEINVAL
	}
	if errno != 0 {
		closefd(int32(fd))
		return 0, errno
	}
	l.context, l.eventfd = context, int32(fd)
	l.iocbs = (*[linuxAIOSlots]linuxIOCB)(memory)
	l.ring = ring
	return linuxAIOSlots, 0
}

// push adds an operation to the submission queue, which has room for all slots.
// The caller holds sqlock.
func (l *aioLinux) push(s *aioSlot, address uintptr) bool {
	opcode := uint16(_IOCB_CMD_PWRITE)
	if s.opcode == _IORING_OP_READ {
		opcode = _IOCB_CMD_PREAD
	}
	l.iocbs[s.num] = linuxIOCB{
		data:    uint64(s.num),
		opcode:  opcode,
		fd:      uint32(s.fd),
		buf:     uint64(address),
		n:       uint64(s.n),
		off:     s.off,
		flags:   _IOCB_FLAG_RESFD,
		eventfd: uint32(l.eventfd),
	}
	l.queue[l.tail%linuxAIOSlots] = s.num
	l.tail++
	return true
}

// pop takes an operation off the submission queue. The caller holds sqlock.
func (l *aioLinux) pop() *aioSlot {
	if l.ring == nil || l.head == l.tail {
		return nil
	}
	s := &aio.slots[l.queue[l.head%linuxAIOSlots]]
	l.head++
	return s
}

// submit hands n operations to the kernel. It returns false if the kernel
// refused.
func (l *aioLinux) submit(n int32) bool {
	for n > 0 {
		var batch [aioBatch]*linuxIOCB
		k := int32(0)
		lock(&aio.sqlock)
		for k < n && k < aioBatch {
			s := l.pop()
			if s == nil {
				break // another thread took them
			}
			batch[k] = &l.iocbs[s.num]
			k++
		}
		unlock(&aio.sqlock)
		if k == 0 {
			return true
		}
		n -= k
		if !l.submitBatch(batch[:k]) {
			return false
		}
	}
	return true
}

// submitBatch submits these operations. The kernel stops at the first that it
// refuses; that one fails.
func (l *aioLinux) submitBatch(batch []*linuxIOCB) bool {
	var list gList
	failed := int32(0)
	alive := true
	for tries := 0; len(batch) > 0; {
		aio.ncall.Add(1)
		taken, _, errno := linux.Syscall6(_SYS_io_submit, l.context, uintptr(len(batch)),
			uintptr(noescape(unsafe.Pointer(&batch[0]))), 0, 0, 0)
		if errno == 0 {
			batch = batch[taken:]
			continue
		}
		if errno == _EINTR || errno == _EAGAIN && tries < 100 {
			tries++
			osyield()
			continue
		}
		if errno == aioEPERM || errno == aioENOSYS {
			alive = false
		}
		aioFail(&aio.slots[batch[0].data], &list)
		failed++
		batch = batch[1:]
	}
	aio.inflight.Add(-failed)
	aioReady(&list, -failed)
	return alive
}

func (l *aioLinux) ready() bool {
	return l.ring != nil && atomic.Load(&l.ring.tail) != atomic.Load(&l.ring.head)
}

// reap takes all completions. The caller holds cqlock.
func (l *aioLinux) reap(toRun *gList) (delta int32) {
	head := l.ring.head
	tail := atomic.LoadAcq(&l.ring.tail)
	events := unsafe.Pointer(uintptr(unsafe.Pointer(l.ring)) + uintptr(l.ring.headerLen))
	for head != tail {
		e := (*linuxEvent)(add(events, uintptr(head)*unsafe.Sizeof(linuxEvent{})))
		aioComplete(e.data, int32(e.res), toRun)
		delta--
		if head++; head == l.ring.size {
			head = 0
		}
	}
	atomic.StoreRel(&l.ring.head, head)
	return delta
}
