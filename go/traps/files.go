// SPDX-License-Identifier: MIT

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

func init() {
	cases["errors"] = errorsCase
	cases["position"] = position
	cases["seek_during_read"] = seekDuringRead
	cases["append"] = appendCase
	cases["close_during_read"] = closeDuringRead
	cases["deadline"] = deadline
	cases["writes"] = writes
	cases["standard_input"] = standardInput
	cases["large"] = large
	cases["growing"] = growing
}

// errorsCase prints the errors of calls that fail, and the counts of short ones.
func errorsCase(dir string) {
	name := dataFile(dir, 10000)
	say := func(what string, n int, err error) { fmt.Println(what, n, word(err)) }
	b := block(2 * blockSize)

	for _, flags := range []int{0, syscall.O_DIRECT} {
		file := open(name, os.O_RDONLY|flags)
		n, err := file.ReadAt(b[:blockSize], 2*blockSize)
		say("short", n, err)
		n, err = file.ReadAt(b[:blockSize], 1<<20)
		say("beyond the end", n, err)
		n, err = file.ReadAt(b[:blockSize], -1)
		say("negative offset", n, err)
		n, err = file.ReadAt(nil, 0)
		say("no bytes", n, err)
		n, err = file.Read(b[:0])
		say("no bytes at the position", n, err)
		n, err = file.Write(b[:blockSize])
		say("not open for writing", n, err)
		n, err = file.ReadAt(b[1:blockSize+1], 0) // O_DIRECT may refuse the address
		say("unaligned", n, err)
		n, err = file.ReadAt(b[:blockSize], 1<<62)
		say("far beyond the end", n, err)
		_, err = file.Seek(0, io.SeekEnd)
		check(err)
		n, err = file.Read(b[:blockSize])
		say("at the end", n, err)
		check(file.Close())
		n, err = file.ReadAt(b[:blockSize], 0)
		say("closed", n, err)
		say("closed twice", 0, file.Close())
	}
	file := open(name, os.O_WRONLY)
	n, err := file.Read(b)
	say("not open for reading", n, err)
	check(file.Close())

	folder := open(dir, os.O_RDONLY)
	n, err = folder.Read(b)
	say("a directory", n, err)
	n, err = folder.ReadAt(b, 0)
	say("a directory at 0", n, err)
	check(folder.Close())

	memory := open("/proc/self/mem", os.O_RDONLY)
	n, err = memory.ReadAt(b, 0)
	say("no memory there", n, err)
	check(memory.Close())

	null := open("/dev/null", os.O_RDWR)
	n, err = null.Read(b)
	say("/dev/null", n, err)
	n, err = null.Write(b)
	say("/dev/null", n, err)
	check(null.Close())

	zero := open("/dev/zero", os.O_RDONLY)
	n, err = zero.Read(b)
	say("/dev/zero", n, err)
	check(zero.Close())

	full := open("/dev/full", os.O_WRONLY)
	n, err = full.Write(b)
	say("/dev/full", n, err)
	check(full.Close())

	_, err = os.Open(filepath.Join(dir, "missing"))
	say("missing", 0, err)
	_, err = os.Open(filepath.Join(name, "below a file"))
	say("below a file", 0, err)
	_, err = os.Open("a\x00b")
	say("a NUL in the name", 0, err)
	_, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	say("exists", 0, err)
}

// position reads and writes at the file position from several goroutines. Each
// byte is read by exactly one of them.
func position(dir string) {
	const size = 4 << 20
	name := dataFile(dir, size)
	for _, flags := range []int{0, syscall.O_DIRECT} {
		file := open(name, os.O_RDONLY|flags)
		var group sync.WaitGroup
		var lock sync.Mutex
		seen := map[int64]int{}
		for i := 0; i < 16; i++ {
			group.Add(1)
			go func() {
				defer group.Done()
				b := block(blockSize)
				for {
					n, err := file.Read(b)
					if err == io.EOF {
						return
					}
					check(err)
					lock.Lock()
					seen[find(b[:n], size)]++
					lock.Unlock()
				}
			}()
		}
		group.Wait()
		end, err := file.Seek(0, io.SeekCurrent)
		check(err)
		for off, times := range seen {
			if off%blockSize != 0 || times != 1 {
				fail("the block at %d was read %d times", off, times)
			}
		}
		fmt.Println(len(seen), "blocks, position", end)
		check(file.Close())
	}
}

// find returns the offset of a block of a data file.
func find(b []byte, size int64) int64 {
	first := binary.LittleEndian.Uint64(b)
	for off := int64(0); off < size; off += blockSize {
		if first == word8(off/8) && isPattern(b, off) {
			return off
		}
	}
	return -1
}

// seekDuringRead moves the position while reads at the position are in flight.
// A Seek takes effect after a read or before it, never in its middle.
func seekDuringRead(dir string) {
	const size = 1 << 20
	name := dataFile(dir, size)
	file := open(name, os.O_RDONLY|syscall.O_DIRECT)
	others := open(name, os.O_RDONLY|syscall.O_DIRECT)
	busy := startReaders(others, size, 8)
	for round := 0; round < 200; round++ {
		_, err := file.Seek(0, io.SeekStart)
		check(err)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, err := file.Read(block(blockSize))
			check(err)
		}()
		_, err = file.Seek(64*blockSize, io.SeekStart)
		check(err)
		<-done
		at, err := file.Seek(0, io.SeekCurrent)
		check(err)
		if at != 64*blockSize && at != 65*blockSize {
			fail("the position is %d", at)
		}
	}
	busy.end()
	fmt.Println("ok")
}

// appendCase has goroutines append records to one file.
func appendCase(dir string) {
	for _, flags := range []int{0, syscall.O_SYNC, syscall.O_DIRECT} {
		name := filepath.Join(dir, "log")
		var group sync.WaitGroup
		for i := 0; i < 8; i++ {
			group.Add(1)
			go func(i int) {
				defer group.Done()
				file := open(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND|flags)
				b := block(blockSize)
				for j := range b {
					b[j] = byte('a' + i)
				}
				for j := 0; j < 10; j++ {
					n, err := file.Write(b)
					check(err)
					if n != len(b) {
						fail("%d bytes", n)
					}
				}
				check(file.Close())
			}(i)
		}
		group.Wait()
		content, err := os.ReadFile(name)
		check(err)
		counts := map[byte]int{}
		for at := 0; at < len(content); at += blockSize {
			for _, c := range content[at : at+blockSize] {
				if c != content[at] {
					fail("a torn record at %d", at)
				}
			}
			counts[content[at]]++
		}
		fmt.Println(len(content), counts)
		check(os.Remove(name))
	}
}

// closeDuringRead closes a file that goroutines read. Their reads succeed, or
// fail because the file is closed.
func closeDuringRead(dir string) {
	const size = 1 << 20
	name := dataFile(dir, size)
	for round := 0; round < 50; round++ {
		file := open(name, os.O_RDONLY|syscall.O_DIRECT)
		number := file.Fd()
		var group sync.WaitGroup
		for i := 0; i < 16; i++ {
			group.Add(1)
			go func(i int) {
				defer group.Done()
				b := block(blockSize)
				for j := 0; ; j++ {
					err := readBlock(file, b, int64((i*7+j)%256)*blockSize)
					if errors.Is(err, os.ErrClosed) {
						return
					}
					check(err)
				}
			}(i)
		}
		time.Sleep(time.Duration(round%5) * 100 * time.Microsecond)
		check(file.Close())
		group.Wait()
		// When the last read has ended, the descriptor is closed.
		var st syscall.Stat_t
		if err := syscall.Fstat(int(number), &st); err != syscall.EBADF {
			fail("fstat: %v", err)
		}
	}
	fmt.Println("ok")
}

// deadline prints that files have no deadlines, also while reads are in flight.
func deadline(dir string) {
	const size = 1 << 20
	file := open(dataFile(dir, size), os.O_RDONLY|syscall.O_DIRECT)
	busy := startReaders(file, size, 16)
	fmt.Println(word(file.SetDeadline(time.Now())))
	fmt.Println(word(file.SetReadDeadline(time.Now().Add(time.Millisecond))))
	time.Sleep(5 * time.Millisecond)
	busy.end()
	// A pipe has deadlines.
	r, w, err := os.Pipe()
	check(err)
	check(r.SetReadDeadline(time.Now().Add(time.Millisecond)))
	_, err = r.Read(make([]byte, 1))
	fmt.Println(word(err))
	check(w.Close())
}

// writes writes a file in several ways and compares.
func writes(dir string) {
	const size = 64 * blockSize
	for _, flags := range []int{0, syscall.O_DIRECT, syscall.O_SYNC, syscall.O_DSYNC,
		syscall.O_DIRECT | syscall.O_SYNC} {
		name := filepath.Join(dir, "out")
		file := open(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC|flags)
		var group sync.WaitGroup
		for i := 0; i < 16; i++ {
			group.Add(1)
			go func(i int) {
				defer group.Done()
				for off := int64(i) * blockSize; off < size; off += 16 * blockSize {
					b := block(blockSize)
					pattern(b, off)
					n, err := file.WriteAt(b, off)
					check(err)
					if n != blockSize {
						fail("%d bytes", n)
					}
					check(file.Sync())
				}
			}(i)
		}
		group.Wait()
		b := block(blockSize)
		pattern(b, size)
		_, err := file.Seek(size, io.SeekStart)
		check(err)
		n, err := file.Write(b)
		check(err)
		at, err := file.Seek(0, io.SeekCurrent)
		check(err)
		check(file.Close())
		content, err := os.ReadFile(name)
		check(err)
		fmt.Println(n, at, len(content), isPattern(content, 0))
	}
}

// standardInput reads the standard input, which may be a file or a pipe.
func standardInput(string) {
	content, err := io.ReadAll(os.Stdin)
	check(err)
	fmt.Println(len(content), isPattern(content, 0))
}

// large reads a whole file with single calls.
func large(dir string) {
	const size = 9<<20 + 123
	name := dataFile(dir, size)
	for round := 0; round < 3; round++ {
		file := open(name, os.O_RDONLY)
		if round < 2 {
			drop(file)
		}
		var group sync.WaitGroup
		for i := 0; i < 4; i++ {
			group.Add(1)
			go func() {
				defer group.Done()
				b := make([]byte, size+10)
				n, err := file.ReadAt(b, 0)
				if n != size || err != io.EOF || !isPattern(b[:n], 0) {
					fail("%d bytes, %v", n, err)
				}
			}()
		}
		group.Wait()
		check(file.Close())
	}
	content, err := os.ReadFile(name)
	check(err)
	fmt.Println(len(content), isPattern(content, 0))
}

// growing reads a file that another goroutine appends to.
func growing(dir string) {
	const size = 256 * blockSize
	name := filepath.Join(dir, "growing")
	writer := open(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND)
	reader := open(name, os.O_RDONLY)
	go func() {
		for off := int64(0); off < size; off += blockSize {
			b := make([]byte, blockSize)
			pattern(b, off)
			_, err := writer.Write(b)
			check(err)
		}
		check(writer.Close())
	}()
	var content []byte
	for len(content) < size {
		b := make([]byte, 3000)
		n, err := reader.Read(b)
		if err != io.EOF {
			check(err)
		}
		content = append(content, b[:n]...)
	}
	fmt.Println(len(content), isPattern(content, 0))
}
