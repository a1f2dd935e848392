// SPDX-License-Identifier: MIT

// Package bubble tests reads in a bubble of testing/synctest: a goroutine that
// reads a file is not durably blocked, so the bubble's clock stands still.
package bubble

import (
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
)

const blockSize = 4096

func TestReadsInABubble(t *testing.T) {
	name := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(name, make([]byte, 64*blockSize), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(name, os.O_RDONLY|syscall.O_DIRECT, 0)
	if err != nil {
		file, err = os.Open(name) // the file system has no O_DIRECT
	}
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var group sync.WaitGroup
		for i := range 16 {
			group.Go(func() {
				buffer := make([]byte, 2*blockSize)
				skip := -uintptr(unsafe.Pointer(&buffer[0])) % blockSize
				for j := range 64 {
					off := int64((i+j)%64) * blockSize
					_, err := file.ReadAt(buffer[skip:skip+blockSize], off)
					if err != nil && err != io.EOF {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		if passed := time.Since(start); passed != 0 {
			t.Errorf("the bubble's clock moved by %v during reads", passed)
		}
		time.Sleep(time.Hour)
		if passed := time.Since(start); passed != time.Hour {
			t.Errorf("the bubble's clock moved by %v", passed)
		}
	})
}
