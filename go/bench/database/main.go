// SPDX-License-Identifier: MIT

// A benchmark of a database that others wrote, badger or goleveldb: goroutines look up
// keys at random. Prints one line of JSON.
//
//	database fill DIRECTORY ENTRIES
//	database cold|cached DIRECTORY ENTRIES GOROUTINES MILLISECONDS
//
// The database of `cold` is not in the page cache at first. GOMAXPROCS is taken from the
// environment.
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand"
	"os"
	"path/filepath"
)

// database is what this benchmark needs of a database.
type database interface {
	// fill adds entries. It may keep neither the keys nor the values.
	fill(entries int, entry func(i int) (key, value []byte)) error
	// get looks up a key and copies its value.
	get(key, value []byte) ([]byte, error)
	Close() error
}

func main() {
	fills := len(os.Args) == 4 && os.Args[1] == "fill"
	if !fills && (len(os.Args) != 6 || os.Args[1] != "cold" && os.Args[1] != "cached") {
		fail(fmt.Errorf("usage: database fill|cold|cached DIRECTORY ENTRIES [GOROUTINES MS]"))
	}
	dir, entries := os.Args[2], number(os.Args[3])
	if fills {
		fill(dir, entries)
		return
	}
	db, err := open(dir)
	check(err)
	visit(dir, os.Args[1] == "cached")
	read := func(number uint64, value []byte) error {
		key := key(int(number % uint64(entries)))
		value, err := db.get(key, value[:0])
		if err == nil && (len(value) != blockSize || string(value[:len(key)]) != string(key)) {
			err = fmt.Errorf("key %x has another value", key)
		}
		return err
	}
	measure(number(os.Args[4]), number(os.Args[5]), "none",
		func(int) func(uint64, []byte) error { return read })
	check(db.Close())
}

// key returns the key of an entry. Keys that are near each other are entries that are
// not.
func key(i int) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(i+1)*0x9e3779b97f4a7c15)
}

// fill makes the database. Each value begins with its key and cannot be compressed.
func fill(dir string, entries int) {
	check(os.RemoveAll(dir))
	check(os.MkdirAll(dir, 0o700))
	db, err := open(dir)
	check(err)
	random := rand.New(rand.NewSource(1))
	check(db.fill(entries, func(i int) ([]byte, []byte) {
		value := make([]byte, blockSize)
		random.Read(value)
		copy(value, key(i))
		return key(i), value
	}))
	check(db.Close())
}

// visit reads all files of the database, or removes them from the page cache.
func visit(dir string, cached bool) {
	entries, err := os.ReadDir(dir)
	check(err)
	for _, entry := range entries {
		file, err := os.Open(filepath.Join(dir, entry.Name()))
		if os.IsNotExist(err) {
			continue // the database has just compacted it
		}
		check(err)
		if cached {
			_, err = io.Copy(io.Discard, file)
			check(err)
		} else {
			check(file.Sync())
			drop(file)
		}
		check(file.Close())
	}
}
