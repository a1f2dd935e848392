// SPDX-License-Identifier: MIT

// A plugin that reads files.
package main

import "cgo/reads"

// Run is called by the host.
func Run(dir string) error { return reads.All(dir, 50, func() {}) }

func main() {}
