package main

import (
	"os"
	"path/filepath"
	"regexp"
)

// modules tells which program loads the libraries of a folder: none of them names the
// library that has its symbols, which is the program.
var modules = []struct {
	path    *regexp.Regexp
	program string // a pattern, on the target
}{
	{regexp.MustCompile(`/python3(\.\d+)?/.*\.so$`), "/usr/bin/python3.*[0-9]"},
	{regexp.MustCompile(`/perl5?/.*\.so$|/perl-base/.*\.so$`), "/usr/bin/perl"},
	{regexp.MustCompile(`/postgresql/\d+/lib/.*\.so$`), "/usr/lib/postgresql/*/bin/postgres"},
	{regexp.MustCompile(`/apache2/modules/.*\.so$`), "/usr/sbin/apache2"},
	{regexp.MustCompile(`/nginx/modules/.*\.so$`), "/usr/sbin/nginx"},
	{regexp.MustCompile(`/php/\d+/.*\.so$`), "/usr/bin/php*[0-9]"},
	{regexp.MustCompile(`/ruby/.*\.so$`), "/usr/bin/ruby*[0-9]"},
	{regexp.MustCompile(`/lua/5\.3/.*\.so$|/liblua5\.3-`), "/usr/bin/lua5.3"},
	{regexp.MustCompile(`\.node$`), "/usr/bin/node"},
}

// loadedBy is the program of the target that a library is a module of, or "".
func loadedBy(s subject) string {
	for _, m := range modules {
		if !m.path.MatchString(s.Path) {
			continue
		}
		if found, err := filepath.Glob(m.program); err == nil && len(found) > 0 {
			if target, err := os.Stat(found[0]); err == nil && target.Mode().IsRegular() {
				return found[0]
			}
		}
	}
	return ""
}
