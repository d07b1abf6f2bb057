"""The benchmark: workq beside beanstalkd and Redis, on the same work in the same run. `bin/bench` starts it."""
