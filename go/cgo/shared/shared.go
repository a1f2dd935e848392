// SPDX-License-Identifier: MIT

// A shared library that reads files, for a program in C.
package main

import "C"

import (
	"fmt"

	"cgo/reads"
)

//export ReadAll
func ReadAll(dir *C.char) C.int {
	if err := reads.All(C.GoString(dir), 50, func() {}); err != nil {
		fmt.Println("FAILED:", err)
		return 1
	}
	return 0
}

func main() {}
