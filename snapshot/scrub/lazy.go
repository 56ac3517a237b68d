package scrub

import (
	"regexp"
	"sync"
)

// lazy compiles a pattern when it is first used: all of them take 5 ms, and most
// commands read no host.
func lazy(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}
