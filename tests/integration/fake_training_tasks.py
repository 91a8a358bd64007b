"""`python -m tests.integration.fake_training_tasks PID`: a Celery worker with the fake trainer."""

from tests.integration.fake_training import main

if __name__ == "__main__":
    main("tasks")
