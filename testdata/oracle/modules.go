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
	now     bool   // it loads them with RTLD_NOW
}{
	{regexp.MustCompile(`/python3(\.\d+)?/.*\.so$`), "/usr/bin/python3.*[0-9]", true},
	{regexp.MustCompile(`/perl5?/.*\.so$|/perl-base/.*\.so$`), "/usr/bin/perl", false},
	{regexp.MustCompile(`/postgresql/\d+/lib/.*\.so$`), "/usr/lib/postgresql/*/bin/postgres", true},
	{regexp.MustCompile(`/apache2/modules/.*\.so$`), "/usr/sbin/apache2", true},
	{regexp.MustCompile(`/nginx/modules/.*\.so$`), "/usr/sbin/nginx", true},
	{regexp.MustCompile(`/php/\d+/.*\.so$`), "/usr/bin/php*[0-9]", false},
	{regexp.MustCompile(`/ruby/.*\.so$`), "/usr/bin/ruby*[0-9]", false},
	{regexp.MustCompile(`/lua/5\.3/.*\.so$|/liblua5\.3-`), "/usr/bin/lua5.3", true},
	{regexp.MustCompile(`\.node$`), "/usr/bin/node", false},
}

// loadedBy is the program of the target that a library is a module of, or "".
func loadedBy(s subject) (path string, now bool) {
	for _, m := range modules {
		if !m.path.MatchString(s.Path) {
			continue
		}
		if found, err := filepath.Glob(m.program); err == nil && len(found) > 0 {
			if target, err := os.Stat(found[0]); err == nil && target.Mode().IsRegular() {
				return found[0], m.now
			}
		}
	}
	return "", false
}
