package layout

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCheckTests(t *testing.T) {
	for name, tc := range map[string]struct {
		src   string
		wrong []string
	}{
		"sleep":         {`func TestX(t *testing.T) { time.Sleep(1) }`, []string{"time.Sleep"}},
		"in a comment":  {`// time.Sleep(1), t.Skip()`, nil},
		"in a string":   {`var s = "time.Sleep(1)"`, nil},
		"skip":          {`func TestX(t *testing.T) { t.Skip("x") }`, []string{"skipped"}},
		"skips":         {`func TestX(t *testing.T) { t.Skipf("x"); t.SkipNow(); if false { b.Skip() } }`, []string{"skipped", "skipped", "skipped"}},
		"other Skip":    {`func f(d *decoder) { d.Skip() }`, nil},
		"skip, bubble":  {`func TestX(t *testing.T) { synctest.Test(t, func(t *testing.T) { t.Skip() }) }`, []string{"skipped"}},
		"bubble":        {`func TestX(t *testing.T) { synctest.Test(t, func(t *testing.T) { time.Sleep(1) }) }`, nil},
		"in a subtest":  {`func TestX(t *testing.T) { t.Run("", func(t *testing.T) { synctest.Test(t, func(t *testing.T) { go func() { time.Sleep(1) }() }) }) }`, nil},
		"beside it":     {`func TestX(t *testing.T) { synctest.Test(t, func(t *testing.T) {}); time.Sleep(1) }`, []string{"time.Sleep"}},
		"wrapper":       {`func w(f func()) { synctest.Test(t, func(*testing.T) { f() }) }; func TestX(t *testing.T) { w(func() { time.Sleep(1) }) }`, nil},
		"by name":       {`func x(t *testing.T) { time.Sleep(1) }; func TestX(t *testing.T) { synctest.Test(t, x) }`, nil},
		"helper":        {`func h() { time.Sleep(1) }; func TestX(t *testing.T) { synctest.Test(t, func(t *testing.T) { h() }) }`, nil},
		"method":        {`func (s *s) h() { time.Sleep(1) }; func TestX(t *testing.T) { synctest.Test(t, func(t *testing.T) { s.h() }) }`, nil},
		"deep helper":   {`func g() { h() }; func h() { time.Sleep(1) }; func TestX(t *testing.T) { synctest.Test(t, func(t *testing.T) { g() }) }`, nil},
		"used twice":    {`func h() { time.Sleep(1) }; func TestX(t *testing.T) { synctest.Test(t, func(t *testing.T) { h() }) }; func TestY(t *testing.T) { h() }`, []string{"time.Sleep"}},
		"deep, twice":   {`func g() { h() }; func h() { time.Sleep(1) }; func TestX(t *testing.T) { synctest.Test(t, func(t *testing.T) { g() }) }; func TestY(t *testing.T) { g() }`, []string{"time.Sleep"}},
		"not called":    {`func h() { time.Sleep(1) }`, []string{"time.Sleep"}},
		"each other":    {`func g() { h() }; func h() { g(); time.Sleep(1) }; func TestX(t *testing.T) { h() }`, []string{"time.Sleep"}},
		"package level": {`var _ = func() int { time.Sleep(1); return 0 }()`, []string{"time.Sleep"}},
		"no Go":         {`func`, []string{"expected"}},
	} {
		t.Run(name, func(t *testing.T) {
			wrong, err := checkTests(fstest.MapFS{
				"p/x_test.go": {Data: []byte("package p\n" + tc.src)},
				"p/x.go":      {Data: []byte("package p\nfunc f() { time.Sleep(1) }")},
			})
			require.NoError(t, err)
			require.Len(t, wrong, len(tc.wrong), "%q", wrong)
			for i, want := range tc.wrong {
				assert.Contains(t, wrong[i], want)
				assert.Contains(t, wrong[i], "p/x_test.go:")
			}
		})
	}
}
