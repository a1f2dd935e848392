// SPDX-License-Identifier: MIT

// Cases of opening files, and of what a program can do with the descriptor.

package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

func init() {
	cases["descriptor"] = descriptor
	cases["flags_changed"] = flagsChanged
	cases["open"] = openCase
}

// openCase opens many names, among them a FIFO, whose open waits for another
// goroutine.
func openCase(dir string) {
	fifo := filepath.Join(dir, "fifo")
	check(syscall.Mkfifo(fifo, 0o600))
	opened := make(chan string)
	go func() {
		file, err := os.Open(fifo)
		check(err)
		content, err := io.ReadAll(file)
		check(err)
		opened <- string(content)
	}()
	var group sync.WaitGroup
	for i := 0; i < 64; i++ {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			name := filepath.Join(dir, fmt.Sprint("file", i))
			check(os.WriteFile(name, []byte(name), 0o600))
			content, err := os.ReadFile(name)
			check(err)
			if string(content) != name {
				fail("%s: %q", name, content)
			}
		}(i)
	}
	group.Wait()
	file, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	check(err)
	_, err = file.WriteString("through the FIFO")
	check(err)
	check(file.Close())
	fmt.Println(<-opened)
}

// descriptor prints what kinds of files have deadlines, and whether their
// descriptors wait.
func descriptor(dir string) {
	fifo := filepath.Join(dir, "fifo")
	check(syscall.Mkfifo(fifo, 0o600))
	name := filepath.Join(dir, "file")
	check(os.WriteFile(name, []byte("content"), 0o600))
	for _, name := range []string{name, dir, fifo, "/dev/null", "/proc/self/mounts",
		"/proc/self/stat"} {
		for _, flags := range []int{os.O_RDONLY, os.O_RDWR, os.O_RDONLY | syscall.O_NONBLOCK} {
			if name == fifo && flags == os.O_RDONLY {
				continue // would wait for a writer
			}
			file, err := os.OpenFile(name, flags, 0)
			kind := filepath.Base(name)
			if name == dir {
				kind = "directory"
			}
			if err != nil {
				fmt.Println(kind, flags, word(err))
				continue
			}
			deadline := file.SetReadDeadline(time.Now().Add(time.Hour))
			waits := statusFlags(file)&syscall.O_NONBLOCK == 0
			file.Fd() // makes the descriptor wait again
			waitsThen := statusFlags(file)&syscall.O_NONBLOCK == 0
			fmt.Println(kind, flags, word(deadline), waits, waitsThen)
			check(file.Close())
		}
	}
}

// flagsChanged has the program change the flags of files that are open.
func flagsChanged(dir string) {
	name := filepath.Join(dir, "log")
	for _, byConn := range []bool{false, true} {
		file := open(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC|syscall.O_DIRECT)
		b := block(blockSize)
		pattern(b, 0)
		_, err := file.WriteAt(b, 3*blockSize)
		check(err)
		change := func(fd uintptr) {
			_, _, errno := syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_SETFL,
				syscall.O_APPEND|syscall.O_DIRECT)
			if errno == syscall.EINVAL { // no O_DIRECT in this file system
				_, _, errno = syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_SETFL,
					syscall.O_APPEND)
			}
			if errno != 0 {
				fail("F_SETFL: %v", errno)
			}
		}
		if byConn {
			control(file, change)
		} else {
			change(file.Fd())
		}
		// Both writes append, whatever the position is.
		for i := 0; i < 2; i++ {
			_, err = file.Write(b)
			check(err)
		}
		at, err := file.Seek(0, io.SeekCurrent)
		check(err)
		info, err := file.Stat()
		check(err)
		fmt.Println("position", at, "size", info.Size())
		check(file.Close())
	}
}

func statusFlags(file *os.File) (flags uintptr) {
	control(file, func(fd uintptr) {
		var errno syscall.Errno
		flags, _, errno = syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_GETFL, 0)
		if errno != 0 {
			fail("F_GETFL: %v", errno)
		}
	})
	return flags
}

// control calls f with the descriptor, whose mode it leaves alone.
func control(file *os.File, f func(fd uintptr)) {
	conn, err := file.SyscallConn()
	check(err)
	check(conn.Control(f))
}
