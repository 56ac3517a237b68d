package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stead-env/stead/envs"
)

func newInit(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "init [TARGET...]",
		Short: "Write a stead.toml for this project",
		Long: "init writes a stead.toml into the git repository around the current folder, or into that folder.\n" +
			"One that is there stays as it is.",
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error { return runInit(g, args) },
	}
}

func runInit(g *globals, targets []string) error {
	project, err := envs.OpenProject(".")
	var syntax *envs.SyntaxError
	if err != nil && !errors.As(err, &syntax) {
		return err
	}
	for _, t := range targets {
		if _, err := envs.ParseRef(t); err != nil {
			return asUsage(err)
		}
	}
	path := filepath.Join(project.Dir, envs.ProjectFile)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return &hintError{fmt.Errorf("writing %s: it is there already", path), "edit it, or remove it first"}
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(initText(project.Dir, g.fleet, targets))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	fmt.Fprintf(g.stderr, "wrote %s\n", path)
	return nil
}

// initText is a stead.toml that says what can be said in it.
func initText(dir, fleet string, targets []string) string {
	var b strings.Builder
	if fleet == "" {
		b.WriteString("# fleet = \"../fleet\"             # default: $STEAD_FLEET, or your own\n")
	} else {
		if abs, err := filepath.Abs(fleet); err == nil {
			if rel, err := filepath.Rel(dir, abs); err == nil {
				fleet = rel
			}
		}
		fmt.Fprintf(&b, "fleet = %s\n", strconv.Quote(fleet))
	}
	quoted := make([]string, len(targets))
	for i, t := range targets {
		quoted[i] = strconv.Quote(t)
	}
	fmt.Fprintf(&b, "targets = [%s]", strings.Join(quoted, ", "))
	b.WriteString(`                  # such as "acme", "globex:next", "initech@2"
# tools = ["build-essential"]        # packages, pkgconfig:MODULE or file:/PATH, added for building

[build]
# fetch = ["go", "mod", "download"]  # with the network, before command
# command = ["make"]                 # without; sees STEAD_TARGET, STEAD_RELEASE, STEAD_REVISION
# artifacts = ["build/*"]            # come to dist/TARGET/
# trial = ["build/app", "--version"] # started there without tools, to see that it starts
# dlopen = ["libcups.so.2"]          # what artifacts load by name; [] for nothing

[env]                                # sessions; but for home, network and display builds, too
# network = "none"                   # or "host"
# home = "shared"                    # your own, "none", or "private": one for each target
# mounts = ["../data:/srv/data:ro"]  # SOURCE[:TARGET][:ro]
# devices = ["/dev/kvm"]
# variables = { CFLAGS = "-O2" }

# [target.acme]                      # what differs for one target
# command = ["make", "LEGACY=1"]
# env.variables = { CFLAGS = "-O1" }
`)
	return b.String()
}
