// SPDX-License-Identifier: MIT

package main

import (
	"github.com/dgraph-io/badger/v2"
	"github.com/dgraph-io/badger/v2/options"
)

type badgerDB struct{ *badger.DB }

// open opens a badger that reads its files. By default it maps them, and page faults
// block with the overlay as without it.
func open(dir string) (database, error) {
	db, err := badger.Open(badger.DefaultOptions(dir).
		WithLogger(nil).
		WithTableLoadingMode(options.FileIO).
		WithValueLogLoadingMode(options.FileIO).
		WithSyncWrites(false))
	return badgerDB{db}, err
}

func (db badgerDB) fill(entries int, entry func(i int) (key, value []byte)) error {
	batch := db.NewWriteBatch()
	defer batch.Cancel()
	for i := 0; i < entries; i++ {
		key, value := entry(i)
		if err := batch.Set(key, value); err != nil {
			return err
		}
	}
	return batch.Flush()
}

func (db badgerDB) get(key, value []byte) ([]byte, error) {
	err := db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(key)
		if err != nil {
			return err
		}
		value, err = item.ValueCopy(value)
		return err
	})
	return value, err
}
