package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stead-env/stead/envs"
)

// matrixFormats are what matrix can print, by name.
var matrixFormats = []struct {
	name  string
	print func(g *globals, entries []envs.MatrixEntry) error
}{
	{"json", func(g *globals, entries []envs.MatrixEntry) error { return g.printJSON(entries) }},
	{"github", func(g *globals, entries []envs.MatrixEntry) error { return githubMatrix(g.stdout, entries) }},
	{"gitlab", func(g *globals, entries []envs.MatrixEntry) error { return gitlabMatrix(g.stdout, entries) }},
}

func newMatrix(g *globals) *cobra.Command {
	var format string
	var locked, asJSON, grouped bool
	cmd := &cobra.Command{
		Use:   "matrix [TARGET...]",
		Short: "Tell a CI system what to build",
		Long: "matrix prints one entry for each target of the project: its release, the identity of its lock, the digest\n" +
			"of its tools, and the key and paths of a cache that saves downloads. It reads no store and writes nothing.\n" +
			"With --grouped there are entries only for the fewest builds that serve all targets (see stead group), each\n" +
			"with the targets that it serves; that reads what the targets' libraries export.\n" +
			"  json    a list of objects\n" +
			"  github  one line: the object that strategy.matrix takes from fromJSON\n" +
			"  gitlab  the jobs of a child pipeline, which extend a job .stead",
		Example: "  stead matrix --format github\n  stead matrix --format gitlab >>targets.yml",
		RunE: func(cmd *cobra.Command, args []string) error {
			if asJSON && cmd.Flags().Changed("format") && format != "json" {
				return usagef("--json and --format %s can't both be meant", format)
			}
			return runMatrix(cmd.Context(), g, format, args, locked, grouped)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&format, "format", "json", "what to print: json, github or gitlab")
	flags.BoolVar(&asJSON, "json", false, "answer as JSON")
	flags.BoolVar(&grouped, "grouped", false, "only the fewest builds that serve all targets")
	flags.BoolVar(&locked, "locked", false, "fail where stead.lock doesn't match")
	return cmd
}

func runMatrix(ctx context.Context, g *globals, format string, args []string, locked, grouped bool) (err error) {
	for _, f := range matrixFormats {
		if f.name != format {
			continue
		}
		w, err := g.open(grouped)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, w.close()) }()
		refs, err := w.refs(args)
		if err != nil {
			return err
		}
		entries, err := w.project.Matrix(w.fleet, refs, locked)
		if err != nil {
			return err
		}
		if grouped {
			grouping, err := g.group(ctx, w, args, locked)
			if err != nil {
				return err
			}
			entries = grouping.Entries(entries)
		}
		return f.print(g, entries)
	}
	return usagef("--format is json, github or gitlab, not %q", format)
}

// githubMatrix prints the value of strategy.matrix on one line, as $GITHUB_OUTPUT takes
// it. Paths are what actions/cache takes: one a line.
func githubMatrix(out io.Writer, entries []envs.MatrixEntry) error {
	type job struct {
		envs.MatrixEntry
		Paths string `json:"paths"`
	}
	matrix := struct {
		Include []job `json:"include"`
	}{[]job{}}
	for _, e := range entries {
		matrix.Include = append(matrix.Include, job{e, strings.Join(e.Paths, "\n")})
	}
	text, err := json.Marshal(matrix)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", text)
	return err
}

// gitlabCache is where GitLab's jobs have the cached blobs: it keeps only what lies in
// the project, and a store can't.
const gitlabCache = ".stead/blobs"

// gitlabMatrix prints jobs, for parallel:matrix can't be made by a job. JSON's strings
// are YAML's.
func gitlabMatrix(out io.Writer, entries []envs.MatrixEntry) error {
	var b strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&b, "%q:\n  extends: .stead\n  variables:\n    STEAD_TARGET: %q\n  cache:\n    key: %q\n    paths:\n      - %s\n",
			"build "+e.Target, e.Ref, e.Key, gitlabCache)
	}
	_, err := io.WriteString(out, b.String())
	return err
}
