"""Course subscriptions: rules about a course and rules about a student, kept by one decision over both."""
