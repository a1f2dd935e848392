// SPDX-License-Identifier: MIT

package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"sync"
	"syscall"
	"unsafe"
)

func init() {
	cases["children"] = children
	cases["exec"] = execCase
	cases["fd_list"] = fdList
	cases["http"] = httpCase
	cases["ring_closed"] = ringClosed
	cases["refused_later"] = refusedLater
	cases["false_end"] = falseEnd
	cases["no_nowait"] = noNowait
	cases["race_order"] = raceOrder
}

func alignment(b []byte) int {
	return int(-uintptr(unsafe.Pointer(&b[0])) % blockSize)
}

// children starts programs while reads are in flight. They inherit no more
// descriptors than before the first read.
func children(dir string) {
	const size = 1 << 20
	descriptors := func() string {
		command := exec.Command("/proc/self/exe", "fd_list", dir)
		command.Env = append(os.Environ(), "AIOSHIM_STATS=0")
		output, err := command.Output()
		check(err)
		return string(output)
	}
	before := descriptors()
	file := open(dataFile(dir, size), os.O_RDONLY|syscall.O_DIRECT)
	readSome(file, size, 16, 10)
	busy := startReaders(file, size, 16)
	for i := 0; i < 10; i++ {
		if now := descriptors(); now != before {
			fail("the child has the descriptors %s", now)
		}
	}
	busy.end()
	fmt.Println("ok")
}

// fdList prints the open descriptors, but not those that the program has opened
// itself.
func fdList(string) {
	var st syscall.Stat_t
	var open []string
	for fd := 0; fd < 100; fd++ {
		if syscall.Fstat(fd, &st) != nil {
			continue
		}
		link, err := os.Readlink(fmt.Sprint("/proc/self/fd/", fd))
		own := strings.Contains(link, "event") || strings.Contains(link, "cpu.max")
		if err == nil && (fd < 3 || !own) {
			open = append(open, fmt.Sprint(fd))
		}
	}
	fmt.Println(strings.Join(open, " "))
}

// execCase replaces the program while reads are in flight.
func execCase(dir string) {
	const size = 1 << 20
	file := open(dataFile(dir, size), os.O_RDONLY|syscall.O_DIRECT)
	startReaders(file, size, 16)
	readSome(file, size, 4, 20)
	check(syscall.Exec("/proc/self/exe", []string{"traps", "standard_input", dir}, os.Environ()))
}

// httpCase serves files that are not cached.
func httpCase(dir string) {
	sizes := []int{0, 1, 511, 4096, 70000, 1<<20 + 17}
	for _, size := range sizes {
		content := make([]byte, size)
		pattern(content, 0)
		check(os.WriteFile(filepath.Join(dir, fmt.Sprint(size)), content, 0o600))
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	server := &http.Server{Handler: http.FileServer(http.Dir(dir))}
	go server.Serve(listener)
	var group sync.WaitGroup
	var lock sync.Mutex
	var lines []string
	for _, size := range sizes {
		for i := 0; i < 8; i++ {
			group.Add(1)
			go func() {
				defer group.Done()
				file := open(filepath.Join(dir, fmt.Sprint(size)), os.O_RDONLY)
				check(file.Sync())
				drop(file)
				check(file.Close())
				response, err := http.Get(fmt.Sprintf("http://%s/%d", listener.Addr(), size))
				check(err)
				content, err := io.ReadAll(response.Body)
				check(err)
				check(response.Body.Close())
				lock.Lock()
				lines = append(lines, fmt.Sprint(response.StatusCode, " ", len(content), " ",
					isPattern(content, 0)))
				lock.Unlock()
			}()
		}
	}
	group.Wait()
	sort.Strings(lines)
	fmt.Println(strings.Join(lines, "\n"))
	// The end of a file and a part of it.
	request, err := http.NewRequest("GET", fmt.Sprintf("http://%s/70000", listener.Addr()), nil)
	check(err)
	request.Header.Set("Range", "bytes=69000-80000")
	response, err := http.DefaultClient.Do(request)
	check(err)
	content, err := io.ReadAll(response.Body)
	check(err)
	fmt.Println(response.StatusCode, len(content), isPattern(content, 69000))
	check(server.Close())
}

// ringClosed closes the ring while reads are in flight, as a program that closes
// all descriptors does.
func ringClosed(dir string) {
	const size = 1 << 20
	file := open(dataFile(dir, size), os.O_RDONLY|syscall.O_DIRECT)
	readSome(file, size, 32, 20)
	busy := startReaders(file, size, 32)
	closed := closeRings()
	readSome(file, size, 32, 20)
	busy.end()
	readSome(file, size, 32, 20)
	fmt.Println("ok")
	fmt.Fprintln(os.Stderr, "closed:", closed)
}

// closeRings closes the descriptors of io_uring. It returns their number.
func closeRings() (closed int) {
	for fd := 3; fd < 100; fd++ {
		var link [64]byte
		// Readlink of a thread's own table.
		n, err := syscall.Readlink(fmt.Sprint("/proc/thread-self/fd/", fd), link[:])
		if err == nil && string(link[:n]) == "anon_inode:[io_uring]" {
			check(syscall.Close(fd))
			closed++
		}
	}
	return closed
}

// sockFilter and sockProgram are a seccomp filter.
type sockFilter struct {
	code   uint16
	jt, jf uint8
	k      uint32
}

type sockProgram struct {
	n      uint16
	filter *sockFilter
}

// refuse makes a system call return errno from now on, on all threads.
func refuse(call uintptr, errno syscall.Errno) {
	const (
		load, jumpEqual, ret = 0x20, 0x15, 0x06
		retErrno, retAllow   = 0x00050000, 0x7fff0000
		setNoNewPrivs        = 38
		setModeFilter, tsync = 1, 1
	)
	sysSeccomp := uintptr(317)
	if runtime.GOARCH == "arm64" {
		sysSeccomp = 277
	}
	filter := [...]sockFilter{
		{load, 0, 0, 0},
		{jumpEqual, 0, 1, uint32(call)},
		{ret, 0, 0, retErrno | uint32(errno)},
		{ret, 0, 0, retAllow},
	}
	program := sockProgram{uint16(len(filter)), &filter[0]}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if _, _, e := syscall.RawSyscall(syscall.SYS_PRCTL, setNoNewPrivs, 1, 0); e != 0 {
		fail("prctl: %v", e)
	}
	_, _, e := syscall.RawSyscall(sysSeccomp, setModeFilter, tsync, uintptr(unsafe.Pointer(&program)))
	if e != 0 {
		fail("seccomp: %v", e)
	}
}

// refusedLater forbids submissions while reads are in flight.
func refusedLater(dir string) {
	const size = 1 << 20
	file := open(dataFile(dir, size), os.O_RDONLY|syscall.O_DIRECT)
	readSome(file, size, 32, 20)
	busy := startReaders(file, size, 32)
	sysIOSubmit := uintptr(209)
	if runtime.GOARCH == "arm64" {
		sysIOSubmit = 2
	}
	const sysIOUringEnter = 426
	refuse(sysIOUringEnter, syscall.EPERM)
	refuse(sysIOSubmit, syscall.EPERM)
	readSome(file, size, 32, 20)
	busy.end()
	readSome(file, size, 32, 20)
	fmt.Println("ok")
}

// falseEnd has the kernel return 0 from every read with RWF_NOWAIT, as Linux 5.9
// and 5.10 do by mistake.
func falseEnd(dir string) {
	const size = 1 << 20
	name := dataFile(dir, size)
	sysPreadv2 := uintptr(327)
	if runtime.GOARCH == "arm64" {
		sysPreadv2 = 286
	}
	refuse(sysPreadv2, 0)
	content, err := os.ReadFile(name)
	check(err)
	fmt.Println(len(content), isPattern(content, 0))
	file := open(name, os.O_RDONLY)
	readSome(file, size, 16, 20)
	fmt.Println("ok")
}

// noNowait reads where the kernel does not know RWF_NOWAIT for a file, as on
// overlayfs, FUSE and NFS.
func noNowait(dir string) {
	const size = 8 << 20
	sysPreadv2 := uintptr(327)
	if runtime.GOARCH == "arm64" {
		sysPreadv2 = 286
	}
	name := dataFile(dir, size)
	refuse(sysPreadv2, syscall.EOPNOTSUPP)
	file := open(name, os.O_RDONLY)
	for round := 0; round < 5; round++ {
		drop(file)
		readSome(file, size, 16, 50)
	}
	_, err := file.Seek(-100, io.SeekEnd)
	check(err)
	n, err := file.Read(make([]byte, 1000))
	fmt.Println(n, word(err))
	n, err = file.Read(make([]byte, 1000))
	fmt.Println(n, word(err))
	// Files that are in memory only.
	status, err := os.ReadFile("/proc/self/status")
	check(err)
	fmt.Println(strings.HasPrefix(string(status), "Name:"))
}

// raceOrder hands memory from one goroutine to another through a file. To the
// race detector, a read comes after the writes before it.
func raceOrder(dir string) {
	name := filepath.Join(dir, "flag")
	for _, flags := range []int{0, syscall.O_DIRECT} {
		check(os.WriteFile(name, make([]byte, blockSize), 0o600))
		writer := open(name, os.O_WRONLY|flags)
		reader := open(name, os.O_RDONLY|flags)
		handed := 0
		go func() {
			b := block(blockSize)
			b[0] = 1
			handed = 42
			_, err := writer.WriteAt(b, 0)
			check(err)
		}()
		for b := block(blockSize); b[0] == 0; {
			_, err := reader.ReadAt(b, 0)
			check(err)
		}
		fmt.Println(handed)
	}
}
