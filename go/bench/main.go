// SPDX-License-Identifier: MIT

// The benchmark of `aioshim measure --only go`: goroutines read or write for a
// while, beside another goroutine that works. Prints one line of JSON.
//
//	bench KIND FILE GOROUTINES MILLISECONDS OTHER
//
// KIND is direct, cold, cached or synced. OTHER is none, yield (works for 10 us and
// yields) or busy (works without a pause). GOMAXPROCS is taken from the environment.
//
//	bench http-cold|http-cached DIRECTORY
//
// serves files until its standard input ends.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	if len(os.Args) == 3 && strings.HasPrefix(os.Args[1], "http-") {
		before := usage()
		operations, ns, latencies := serve(os.Args[2], os.Args[1] == "http-cached")
		report(operations, ns, before, latencies, 0)
		return
	}
	if len(os.Args) != 6 {
		fail(fmt.Errorf("usage: bench KIND FILE GOROUTINES MILLISECONDS OTHER"))
	}
	measure(number(os.Args[3]), number(os.Args[4]), os.Args[5], prepare(os.Args[1], os.Args[2]))
}

// prepare opens the file, and makes a function that returns the operation of a
// goroutine.
func prepare(kind, name string) func(i int) func(uint64, []byte) error {
	if kind == "synced" {
		return func(i int) func(uint64, []byte) error { return synced(filepath.Dir(name), i) }
	}
	flags := os.O_RDONLY
	if kind == "direct" {
		flags |= syscall.O_DIRECT
	}
	file, err := os.OpenFile(name, flags, 0)
	check(err)
	info, err := file.Stat()
	check(err)
	blocks := uint64(info.Size() / blockSize)
	switch kind {
	case "cold":
		drop(file)
		random(file)
	case "cached":
		blocks = min(blocks, 2048)
		for i := uint64(0); i < blocks; i++ {
			_, err := file.ReadAt(make([]byte, blockSize), int64(i)*blockSize)
			check(err)
		}
	}
	read := func(number uint64, b []byte) error {
		_, err := file.ReadAt(b, int64(number%blocks)*blockSize)
		return err
	}
	return func(int) func(uint64, []byte) error { return read }
}

// synced returns a function that writes a block of a file and waits until it is
// on the disk.
func synced(dir string, i int) func(uint64, []byte) error {
	file, err := os.OpenFile(filepath.Join(dir, fmt.Sprint("synced.", i)),
		os.O_RDWR|os.O_CREATE, 0o600)
	check(err)
	check(os.Remove(file.Name()))
	return func(number uint64, b []byte) error {
		if _, err := file.WriteAt(b, int64(number%16)*blockSize); err != nil {
			return err
		}
		return file.Sync()
	}
}
