package envs

import (
	"bytes"
	"context"
	"os/exec"
	"strings"
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
