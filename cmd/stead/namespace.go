package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/runtime/rootless"
)

// inNamespace are the commands for which an ordinary user's process needs a user
// namespace: those that make, compare or remove trees with the owners that a host's
// files have, and those that start sessions.
var inNamespace = map[string]func(args []string) bool{
	"pull": always, "enter": always, "run": always, "build": always, "fsck": always, "gc": always, "sessions": always,
	"doctor-tries": always,
	"snapshot":     readsNoOwners,
}

func always([]string) bool { return true }

// readsNoOwners reports whether a snapshot's host is a list or an archive. In a user
// namespace the files of this machine have other owners, sudo makes nobody root, and
// ssh mistrusts the system's configuration.
func readsNoOwners(args []string) bool {
	scheme, _, ok := strings.Cut(append(args, "")[0], ":")
	return ok && scheme != "ssh" && !strings.Contains(scheme, "/")
}

// namespace gives an ordinary user's command a user namespace. Where that can't be
// had the command goes on without: what can't be done then says so itself.
func (g *globals) namespace(cmd *cobra.Command, args []string) error {
	inside, alone, err := rootless.Await()
	if inside || err != nil {
		g.alone = alone
		return err
	}
	for cmd.HasParent() && cmd.Parent().HasParent() {
		cmd = cmd.Parent() // of sessions rm, sessions counts
	}
	needs := inNamespace[cmd.Name()]
	if needs == nil || !needs(args) || !rootless.Needed() {
		return nil
	}
	dir, err := envs.StoreDir()
	if err != nil {
		return err
	}
	code, err := rootless.Enter(rootless.Find(dir))
	if err != nil {
		g.noNamespace = err
		return nil
	}
	return exitCode(code)
}

// aloneKey is where the store keeps that the user was told about having one id.
const aloneKey = "one-id"

// tellAlone says why the user's own ids are the only ones inside, once.
func (g *globals) tellAlone(s *store.Store) error {
	if g.alone == "" {
		return nil
	}
	told, err := s.Recall(aloneKey)
	if err == nil && told == g.alone {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fmt.Fprintf(g.stderr, "note: all files in envs are yours, and there is no user in them but you and root: %s\n", clean(g.alone))
	return s.Remember(aloneKey, g.alone)
}
