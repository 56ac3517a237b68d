package envs

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestFailuresHint(t *testing.T) {
	lost := &BuildError{Target: "acme", Command: []string{"make"}, Code: 2, Log: "/log"}
	err := error(failures{lost, errors.New("else"), fmt.Errorf("again: %w", lost), &BuildError{Target: "globex"}})
	if got := err.(interface{ Hint() string }).Hint(); got != "stead enter --view acme; stead enter --view globex" {
		t.Errorf("got %q", got)
	}
	var command *BuildError
	if !errors.As(err, &command) || command != lost || !strings.HasPrefix(err.Error(), "building for acme: make ended with exit code 2; its output is in /log\nelse\n") {
		t.Errorf("got %v", err)
	}
}

// What can be known of a build to fail is said before there is an env.
func TestBuildPlan(t *testing.T) {
	for _, test := range []struct {
		build Build
		want  string
	}{
		{Build{}, "has no build command"},
		{Build{Command: []string{""}}, "the first word of command is empty"},
		{Build{Command: []string{"make"}, Fetch: []string{"", "x"}}, "the first word of fetch is empty"},
		{Build{Command: []string{"make"}, Artifacts: []string{"[a"}}, `pattern "[a" is no pattern`},
	} {
		project := &Project{Dir: t.TempDir(), Config: ProjectConfig{Build: test.build}}
		r := &builder{builds: &builds{project: project}, release: Release{Target: "acme", Number: 1}}
		if err := r.plan(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: got %v", test.build, err)
		}
	}
	project := &Project{Dir: t.TempDir(), Config: ProjectConfig{Build: Build{Command: []string{"make"}}}}
	tree(t, project.Dir, map[string]string{"dist": "a file"})
	r := &builder{builds: &builds{project: project}, release: Release{Target: "acme", Number: 1}}
	var dist *DistError
	if err := r.plan(); !errors.As(err, &dist) {
		t.Errorf("got %v", err)
	}
}
