package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// searchers tells how a language's program is asked where it looks for modules: it prints
// folders, and where their names matter, patterns of names that begin with *.
var searchers = []struct {
	path    *regexp.Regexp
	program string // a pattern, on the target
	args    []string
}{
	{regexp.MustCompile(`/python3(\.\d+)?/`), "/usr/bin/python3.*[0-9]", []string{"-c", `
import sys, importlib.machinery as m
print(*sys.path, *("*" + s for s in m.EXTENSION_SUFFIXES), sep="\n")`}},
	{regexp.MustCompile(`/perl5?/|/perl-base/`), "/usr/bin/perl", []string{"-e", `print "$_\n" for @INC`}},
	{regexp.MustCompile(`/ruby/`), "/usr/bin/ruby*[0-9]", []string{"-e", `puts $:, Gem.path`}},
	{regexp.MustCompile(`/php/\d+/`), "/usr/bin/php*[0-9]", []string{"-n", "-r", `echo ini_get("extension_dir");`}},
	{regexp.MustCompile(`/postgresql/\d+/lib/`), "/usr/lib/postgresql/*/bin/pg_config", []string{"--pkglibdir"}},
}

// overlooks is the program of the target that such modules are for, where it doesn't look
// for this one, or isn't there; "" where it looks, or nothing is known of such modules.
func (r *room) overlooks(ctx context.Context, s subject) (string, error) {
	for _, l := range searchers {
		if !l.path.MatchString(s.Path) {
			continue
		}
		programs, err := filepath.Glob(l.program)
		if err != nil {
			return "", err
		}
		if len(programs) == 0 {
			return l.program, nil
		}
		program := programs[0]
		told, ok := r.looks[program]
		if !ok {
			if told, err = r.run(ctx, program, l.args); err != nil {
				return "", err
			}
			r.looks[program] = told
		}
		if !finds(told, s.Path) {
			return program, nil
		}
		return "", nil
	}
	return "", nil
}

// run gives what a program prints.
func (r *room) run(ctx context.Context, program string, args []string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	var out bytes.Buffer
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin"}, r.null, &out, r.null
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		return nil, nil // it doesn't start, or lacks what it needs: it looks nowhere
	}
	if err != nil {
		return nil, fmt.Errorf("asking %s where it looks: %w", program, err)
	}
	return strings.Split(strings.TrimSpace(out.String()), "\n"), nil
}

// finds reports whether a file is in a folder and has a name that are looked for.
func finds(told []string, path string) bool {
	var there, named, names bool
	for _, line := range told {
		switch {
		case strings.HasPrefix(line, "*"):
			names = true
			// python takes what comes after the first dot for the suffix
			_, suffix, _ := strings.Cut(filepath.Base(path), ".")
			named = named || "*."+suffix == line
		case line != "":
			dir := filepath.Clean(line)
			if real, err := filepath.EvalSymlinks(dir); err == nil {
				dir = real
			}
			there = there || strings.HasPrefix(path, dir+"/")
		}
	}
	return there && (named || !names)
}
