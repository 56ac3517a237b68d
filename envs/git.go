package envs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// GitIdentity is the answer of git to who the developer is.
type GitIdentity struct{ answer chan []byte }

// AskGitIdentity asks git who the developer is, as the project's configuration has it,
// for commits made inside. Git answers beside what else is done, until ctx ends.
func AskGitIdentity(ctx context.Context, p *Project) *GitIdentity {
	g := &GitIdentity{answer: make(chan []byte, 1)}
	go func() {
		out, err := gitOutput(ctx, p.Dir, "config", "--null", "--get-regexp", `^user\.(name|email)$`)
		if err != nil {
			out = nil // no git, or nothing set: then nobody is named inside either
		}
		g.answer <- out
	}()
	return g
}

// pass waits for the answer, once, and gives it to vars.
func (g *GitIdentity) pass(vars map[string]string) {
	for entry := range bytes.SplitSeq(<-g.answer, []byte{0}) {
		key, value, _ := strings.Cut(string(entry), "\n")
		for _, role := range []string{"AUTHOR", "COMMITTER"} {
			switch key {
			case "user.name":
				vars["GIT_"+role+"_NAME"] = value
			case "user.email":
				vars["GIT_"+role+"_EMAIL"] = value
			}
		}
	}
}

func gitOutput(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	return cmd.Output()
}

// commit is the one that a project is at; zero where there is none.
type commit struct {
	id   string
	date time.Time
}

// revision asks git for the commit that a project, or the repository around it, is at.
// That git is missing or refuses is an error; that there is no commit yet is none.
func revision(ctx context.Context, dir string) (c commit, err error) {
	if _, ok := upward(dir, ".git"); !ok {
		return c, nil
	}
	// It is asked for this way because it says nothing where there is no commit yet.
	_, err = gitOutput(ctx, dir, "rev-parse", "--verify", "--quiet", "HEAD")
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == 1 {
		return c, nil
	}
	var out []byte
	if err == nil {
		out, err = gitOutput(ctx, dir, "log", "-1", "--no-show-signature", "--format=%H %ct", "HEAD")
	}
	if err != nil {
		return c, fmt.Errorf("asking git for the revision of %s: %w", dir, gitSaid(err))
	}
	id, date, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	seconds, err := strconv.ParseInt(date, 10, 64)
	if err != nil {
		return c, fmt.Errorf("asking git for the revision of %s: it answered %.100q", dir, out)
	}
	return commit{id, time.Unix(seconds, 0)}, nil
}

// gitSaid is what git gave as the reason of an error, where it gave one.
func gitSaid(err error) error {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return err
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(exit.Stderr)), "\n")
	if first == "" {
		return err
	}
	return errors.New(strings.TrimPrefix(first, "fatal: "))
}
