// SPDX-License-Identifier: MIT

// Programs that must behave in the same way with the overlay as without it. Each
// case prints what it has seen; the test compares the outputs.
//
//	traps CASE DIRECTORY
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"unsafe"
)

// A testCase runs in an empty directory.
type testCase func(dir string)

var cases = map[string]testCase{}

func main() {
	if len(os.Args) < 3 || cases[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: traps CASE DIRECTORY")
		os.Exit(2)
	}
	cases[os.Args[1]](os.Args[2])
}

// check ends the program if err is not nil.
func check(err error) {
	if err != nil {
		fail("%v", err)
	}
}

func fail(format string, args ...any) {
	fmt.Printf("FAILED: "+format+"\n", args...)
	os.Exit(1)
}

const blockSize = 4096

// block returns memory that is aligned for O_DIRECT.
func block(size int) []byte {
	buffer := make([]byte, size+blockSize)
	skip := -uintptr(unsafe.Pointer(&buffer[0])) % blockSize
	return buffer[skip : int(skip)+size]
}

// word8 is the content of the 8 bytes of a data file that begin at 8*i.
func word8(i int64) uint64 { return uint64(i+1) * 0x9e3779b97f4a7c15 }

func byteAt(at int64) byte { return byte(word8(at/8) >> (at % 8 * 8)) }

// pattern fills b with the content of a data file at off. No two aligned words of
// it are equal.
func pattern(b []byte, off int64) {
	for i := range b {
		b[i] = byteAt(off + int64(i))
	}
}

// isPattern reports whether b is the content of a data file at off.
func isPattern(b []byte, off int64) bool {
	for i := range b {
		if b[i] != byteAt(off+int64(i)) {
			return false
		}
	}
	return true
}

// dataFile writes a file of size bytes to the disk and drops it from the page
// cache. It returns its name.
func dataFile(dir string, size int) string {
	name := filepath.Join(dir, "data")
	content := make([]byte, size)
	pattern(content, 0)
	check(os.WriteFile(name, content, 0o600))
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	check(err)
	check(file.Sync())
	drop(file)
	check(file.Close())
	return name
}

// drop removes a file from the page cache.
func drop(file *os.File) {
	const dontNeed = 4
	syscall.Syscall6(syscall.SYS_FADVISE64, file.Fd(), 0, 0, dontNeed, 0, 0)
}

// open opens a file. Without O_DIRECT in the file system, the case reads from
// the page cache.
func open(name string, flags int) *os.File {
	file, err := os.OpenFile(name, flags, 0o600)
	if errors.Is(err, syscall.EINVAL) && flags&syscall.O_DIRECT != 0 {
		file, err = os.OpenFile(name, flags&^syscall.O_DIRECT, 0o600)
	}
	check(err)
	return file
}

// readers are goroutines that read random blocks of a file until they are
// stopped.
type readers struct {
	stop  chan struct{}
	group sync.WaitGroup
	wrong chan error
}

func startReaders(file *os.File, size int, n int) *readers {
	r := &readers{stop: make(chan struct{}), wrong: make(chan error, n)}
	for i := 0; i < n; i++ {
		r.group.Add(1)
		go func(random *rand.Rand) {
			defer r.group.Done()
			b := block(blockSize)
			for {
				select {
				case <-r.stop:
					return
				default:
				}
				if err := readBlock(file, b, int64(random.Intn(size/blockSize))*blockSize); err != nil {
					r.wrong <- err
					return
				}
			}
		}(rand.New(rand.NewSource(int64(i))))
	}
	return r
}

// readBlock reads at off and compares.
func readBlock(file *os.File, b []byte, off int64) error {
	n, err := file.ReadAt(b, off)
	if err != nil {
		return err
	}
	if n != len(b) || !isPattern(b, off) {
		return fmt.Errorf("wrong content: %d bytes at %d", n, off)
	}
	return nil
}

// end stops the readers. They must have read what was written.
func (r *readers) end() {
	close(r.stop)
	r.group.Wait()
	close(r.wrong)
	for err := range r.wrong {
		fail("%v", err)
	}
}

// readSome has n goroutines read count random blocks each.
func readSome(file *os.File, size, n, count int) {
	var group sync.WaitGroup
	for i := 0; i < n; i++ {
		group.Add(1)
		go func(random *rand.Rand) {
			defer group.Done()
			b := block(blockSize)
			for j := 0; j < count; j++ {
				check(readBlock(file, b, int64(random.Intn(size/blockSize))*blockSize))
			}
		}(rand.New(rand.NewSource(int64(i))))
	}
	group.Wait()
}

// word describes an error without the name of the file.
func word(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Op + ": " + path.Err.Error()
	}
	return fmt.Sprint(err)
}
