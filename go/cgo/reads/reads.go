// SPDX-License-Identifier: MIT

// Package reads reads a file from many goroutines, for the programs beside it.
package reads

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"unsafe"
)

const (
	blockSize = 4096
	blocks    = 128
)

// All writes a file in dir and has goroutines read it, each count times. between
// is called between two reads.
func All(dir string, count int, between func()) error {
	name := filepath.Join(dir, "data")
	content := make([]byte, blocks*blockSize)
	for i := range content {
		content[i] = byte(i / blockSize)
	}
	if err := os.WriteFile(name, content, 0o600); err != nil {
		return err
	}
	file, err := os.OpenFile(name, os.O_RDONLY|syscall.O_DIRECT, 0)
	if err != nil {
		file, err = os.Open(name) // the file system has no O_DIRECT
	}
	if err != nil {
		return err
	}
	defer file.Close()
	var group sync.WaitGroup
	errors := make(chan error, 16)
	for i := 0; i < 16; i++ {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			for j := 0; j < count; j++ {
				if err := one(file, (i*17+j)%blocks); err != nil {
					errors <- err
					return
				}
				between()
			}
		}(i)
	}
	group.Wait()
	close(errors)
	return <-errors
}

func one(file *os.File, number int) error {
	buffer := make([]byte, 2*blockSize)
	skip := -uintptr(unsafe.Pointer(&buffer[0])) % blockSize
	block := buffer[skip : skip+blockSize]
	n, err := file.ReadAt(block, int64(number)*blockSize)
	if err != nil {
		return err
	}
	for _, c := range block {
		if n != blockSize || c != byte(number) {
			return fmt.Errorf("block %d: %d bytes, found %d", number, n, c)
		}
	}
	return nil
}
