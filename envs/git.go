package envs

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// gitIdentity passes who the developer is to git, as the project's configuration
// has it, for commits made inside.
func gitIdentity(ctx context.Context, vars map[string]string, dir string) {
	out, err := gitOutput(ctx, dir, "config", "--null", "--get-regexp", `^user\.(name|email)$`)
	if err != nil {
		return // no git, or nothing set: then nobody is named inside either
	}
	for entry := range bytes.SplitSeq(out, []byte{0}) {
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
	if _, err := os.Lstat(filepath.Join(dir, ".git")); errors.Is(err, fs.ErrNotExist) {
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
