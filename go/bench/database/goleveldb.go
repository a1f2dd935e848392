// SPDX-License-Identifier: MIT

package main

import "github.com/syndtr/goleveldb/leveldb"

type levelDB struct{ *leveldb.DB }

func open(dir string) (database, error) {
	db, err := leveldb.OpenFile(dir, nil)
	return levelDB{db}, err
}

func (db levelDB) fill(entries int, entry func(i int) (key, value []byte)) error {
	for i := 0; i < entries; i++ {
		key, value := entry(i)
		if err := db.Put(key, value, nil); err != nil {
			return err
		}
	}
	return nil
}

func (db levelDB) get(key, _ []byte) ([]byte, error) { return db.Get(key, nil) }
