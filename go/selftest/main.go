// SPDX-License-Identifier: MIT

// The self-test of `aioshim go check`: goroutines read blocks of a file, with
// O_DIRECT where the file system has it, and compare them with what was written.
package main

import (
	"encoding/binary"
	"fmt"
	"math/rand"
	"os"
	"sync"
	"syscall"
	"unsafe"
)

const (
	blockSize = 4096
	blocks    = 256
	readers   = 32
	reads     = 64
)

func main() {
	const name = "data"
	if err := write(name); err != nil {
		fail(err)
	}
	defer os.Remove(name)
	for _, flags := range []int{0, syscall.O_DIRECT} {
		file, err := os.OpenFile(name, os.O_RDONLY|flags, 0)
		if err != nil && flags != 0 {
			continue // the file system has no O_DIRECT
		}
		if err != nil {
			fail(err)
		}
		if err := readAll(file); err != nil {
			fail(err)
		}
		if err := file.Close(); err != nil {
			fail(err)
		}
	}
}

// write fills blocks with their own numbers.
func write(name string) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	block := make([]byte, blockSize)
	for i := 0; i < blocks; i++ {
		for at := 0; at < blockSize; at += 8 {
			binary.LittleEndian.PutUint64(block[at:], uint64(i))
		}
		if _, err := file.Write(block); err != nil {
			return err
		}
	}
	if err := file.Sync(); err != nil {
		return err
	}
	// What is not in the page cache must be read from the disk.
	const dontNeed = 4
	syscall.Syscall6(syscall.SYS_FADVISE64, file.Fd(), 0, 0, dontNeed, 0, 0)
	return file.Close()
}

func readAll(file *os.File) error {
	errors := make(chan error, readers)
	var group sync.WaitGroup
	for i := 0; i < readers; i++ {
		group.Add(1)
		go func(seed int64) {
			defer group.Done()
			errors <- read(file, rand.New(rand.NewSource(seed)))
		}(int64(i))
	}
	group.Wait()
	close(errors)
	for err := range errors {
		if err != nil {
			return err
		}
	}
	return nil
}

func read(file *os.File, random *rand.Rand) error {
	buffer := make([]byte, 2*blockSize)
	skip := -uintptr(unsafe.Pointer(&buffer[0])) % blockSize // O_DIRECT needs an aligned address
	block := buffer[skip : skip+blockSize]
	for i := 0; i < reads; i++ {
		number := random.Intn(blocks)
		n, err := file.ReadAt(block, int64(number)*blockSize)
		if err != nil || n != blockSize {
			return fmt.Errorf("block %d: %d bytes, %v", number, n, err)
		}
		for at := 0; at < blockSize; at += 8 {
			if found := binary.LittleEndian.Uint64(block[at:]); found != uint64(number) {
				return fmt.Errorf("block %d: found %d at byte %d", number, found, at)
			}
		}
	}
	return nil
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "selftest:", err)
	os.Exit(1)
}
