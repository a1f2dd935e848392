// SPDX-License-Identifier: MIT

package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

const (
	httpFiles    = 1024
	httpFileSize = 64 << 10
)

// serve serves files until the standard input ends. The first line of its output
// is its address. Without a request it measures nothing.
func serve(dir string, cached bool) (operations uint64, ns int64, h *histogram) {
	check(os.MkdirAll(dir, 0o700))
	content := make([]byte, httpFileSize)
	for i := 0; i < httpFiles; i++ {
		name := filepath.Join(dir, fmt.Sprint(i))
		if info, err := os.Stat(name); err != nil || info.Size() != httpFileSize {
			check(os.WriteFile(name, content, 0o600))
		}
		file, err := os.Open(name)
		check(err)
		if cached {
			_, err = io.Copy(io.Discard, file)
			check(err)
		} else {
			check(file.Sync())
			drop(file)
			random(file)
		}
		check(file.Close())
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	files := http.FileServer(http.Dir(dir))
	var first, last atomic.Int64
	var count atomic.Uint64
	var lock sync.Mutex
	h = new(histogram)
	handler := func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		first.CompareAndSwap(0, start.UnixNano())
		files.ServeHTTP(w, r)
		count.Add(1)
		last.Store(time.Now().UnixNano())
		lock.Lock()
		h.add(time.Since(start).Nanoseconds())
		lock.Unlock()
	}
	go http.Serve(listener, http.HandlerFunc(handler))
	fmt.Println(listener.Addr())
	_, err = io.Copy(io.Discard, os.Stdin)
	check(err)
	lock.Lock()
	return count.Load(), max(last.Load()-first.Load(), 1), h
}
