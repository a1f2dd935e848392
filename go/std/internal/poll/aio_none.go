// SPDX-License-Identifier: MIT

// Package poll, asynchronous file I/O: systems that have none.

//go:build (unix || (js && wasm) || wasip1 || windows) && !(linux && (amd64 || arm64))

package poll

type aioFile struct{}

func (*aioFile) on() bool           { return false }
func (*aioFile) opened(bool, error) {}
func (*aioFile) lockPosition()      {}
func (*aioFile) unlockPosition()    {}

func (fd *FD) aioRead(p []byte, off int64) (n int, err error, done bool)  { return 0, nil, false }
func (fd *FD) aioWrite(p []byte, off int64) (n int, err error, done bool) { return 0, nil, false }
func (fd *FD) aioFsync() (err error, done bool)                           { return nil, false }

func aioWarm(src int, size int) int { return size }

// AioOpen opens nothing here: the caller makes the plain call.
func AioOpen(path string, flags int) (fd int, done bool) { return -1, false }

func (fd *FD) AioOpened() bool    { return false }
func (fd *FD) AioFlags(flags int) {}
func (fd *FD) AioShared()         {}
