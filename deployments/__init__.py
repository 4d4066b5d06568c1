"""What it takes to run on real machines: server, pools, deployments, automations."""
