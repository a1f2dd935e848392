// SPDX-License-Identifier: MIT

// Reads a file twice and prints the statistics after each read.
package main

import (
	"fmt"
	"os"

	"stats"
)

func main() {
	for range 2 {
		if _, err := os.ReadFile(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Printf("%s\n", stats.Stats())
	}
}
