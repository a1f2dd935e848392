// SPDX-License-Identifier: MIT

// A program that calls C between reads, also back from C to Go, and that loads a
// plugin which reads as well.
//
//	host DIRECTORY PLUGIN
package main

/*
#include <unistd.h>

void callBack(void);

static void sleepALittle(void) { usleep(50); }
static void callGo(void) { callBack(); }
*/
import "C"

import (
	"fmt"
	"os"
	"plugin"
	"sync/atomic"

	"cgo/reads"
)

var called atomic.Int64

//export callBack
func callBack() { called.Add(1) }

func main() {
	err := reads.All(os.Args[1], 50, func() {
		C.sleepALittle()
		C.callGo()
	})
	check(err)
	if called.Load() != 16*50 {
		check(fmt.Errorf("C called back %d times", called.Load()))
	}
	loaded, err := plugin.Open(os.Args[2])
	check(err)
	run, err := loaded.Lookup("Run")
	check(err)
	check(run.(func(string) error)(os.Args[1]))
	fmt.Println("ok")
}

func check(err error) {
	if err != nil {
		fmt.Println("FAILED:", err)
		os.Exit(1)
	}
}
