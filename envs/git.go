package envs

import (
	"bytes"
	"context"
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

func revision(ctx context.Context, dir string) (c commit) {
	if _, ok := upward(dir, ".git"); !ok {
		return c
	}
	out, err := gitOutput(ctx, dir, "log", "-1", "--no-show-signature", "--format=%H %ct", "HEAD")
	if err != nil {
		return c
	}
	id, date, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	seconds, err := strconv.ParseInt(date, 10, 64)
	if err != nil {
		return c
	}
	return commit{id, time.Unix(seconds, 0)}
}
