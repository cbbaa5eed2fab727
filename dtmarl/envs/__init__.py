"""The PettingZoo shells around `dtmarl.dynamics`."""
