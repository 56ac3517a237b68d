package envs

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/stead-env/stead/envs/lock"
)

// writeLines writes a TOML array with a line for each element, and nothing where there
// is none.
func writeLines[T any](b *bytes.Buffer, key string, list []T, spell func(T) string) {
	if len(list) == 0 {
		return
	}
	b.WriteString(key + " = [\n")
	for _, v := range list {
		b.WriteString("  " + spell(v) + ",\n")
	}
	b.WriteString("]\n")
}

// inline is an inline table of TOML: keys and values in turn, without those that are
// zero.
func inline(pairs ...any) string {
	var parts []string
	for i := 0; i+1 < len(pairs); i += 2 {
		value := ""
		switch v := pairs[i+1].(type) {
		case string:
			if v != "" {
				value = lock.Quote(v)
			}
		case []string:
			if len(v) > 0 {
				value = quoteList(v)
			}
		case bool:
			if v {
				value = "true"
			}
		case int64:
			value = strconv.FormatInt(v, 10)
		case time.Time:
			if !v.IsZero() {
				value = v.UTC().Format(time.RFC3339)
			}
		}
		if value != "" {
			parts = append(parts, fmt.Sprintf("%s = %s", pairs[i], value))
		}
	}
	return "{ " + strings.Join(parts, ", ") + " }"
}

func quoteList(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = lock.Quote(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
